# Copyright (c) Microsoft Corporation.
# Licensed under the MIT License.

from .cap import CAP
