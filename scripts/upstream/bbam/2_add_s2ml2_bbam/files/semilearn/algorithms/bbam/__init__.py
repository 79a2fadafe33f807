# Copyright (c) Microsoft Corporation.
# Licensed under the MIT License.

from .bbam import BBAM, BBAM_Net
