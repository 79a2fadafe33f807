# Copyright (c) Microsoft Corporation.
# Licensed under the MIT License.

import torch


def column_ranks(values):
    """
    place of every value in its column, 0 for the highest; of equal values the earlier row is higher

    Args:
        values: shape=[# of rows, # of labels]
    """
    return values.argsort(dim=0, descending=True, stable=True).argsort(dim=0)


def class_aware_pseudo_labels(scores, positive_rate, positive_share=1.0, negative_share=1.0):
    """
    take the floor(positive_rate N) highest of N scores of each label as its positives, which are none for a rare label

    Args:
        scores: shape=[N, # of labels]
        positive_rate: share of positives of each label, shape=[# of labels]
        positive_share: share of the positives, the highest scores, that the mask keeps
        negative_share: share of the negatives, the lowest scores, that the mask keeps

    Returns:
        pseudo-labels and mask, of the shape of scores, float
    """
    num_samples = len(scores)
    rate = positive_rate.double()

    def count(share):
        # a product that is whole but for rounding must not lose one
        return torch.floor(share * num_samples + 1e-3).long().to(scores.device)

    ranks = column_ranks(scores)
    pseudo_label = ranks < count(rate)
    mask = (ranks < count(positive_share * rate)) | (ranks >= num_samples - count(negative_share * (1 - rate)))
    if positive_share == 1 and negative_share == 1:
        mask = torch.ones_like(mask)
    return pseudo_label.float(), mask.float()
