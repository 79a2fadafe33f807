# Copyright (c) Microsoft Corporation.
# Licensed under the MIT License.

import torch
import torch.nn as nn
from torch.nn import functional as F


def bce_loss(logits, targets, reduction='none'):
    """
    binary cross entropy of every label.

    Args:
        logits: logit values, shape=[Batch size, # of labels]
        targets: multi-hot or soft targets in [0, 1], shape=[Batch size, # of labels]
        reduction: 'none' keeps the shape, 'mean' is the mean over samples and labels
    """
    loss = F.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction='none')
    return loss if reduction == 'none' else loss.mean()


def asymmetric_loss(logits, targets, gamma_negative=4.0, gamma_positive=0.0, clip=0.05, reduction='none'):
    """
    asymmetric loss (https://arxiv.org/abs/2009.14119), arguments as in bce_loss.

    Args:
        gamma_negative, gamma_positive: focal exponents of negatives and positives, the weights carry no gradient
        clip: probability up to which a negative costs nothing
    """
    logits, targets = logits.float(), targets.float()
    probs, complement = torch.sigmoid(logits), torch.sigmoid(-logits)
    log_negative = (complement + clip).clamp(max=1).log() if clip > 0 else F.logsigmoid(-logits)
    positive = complement.detach() ** gamma_positive * F.logsigmoid(logits)
    negative = (probs.detach() - clip).clamp(min=0) ** gamma_negative * log_negative
    loss = -(targets * positive + (1 - targets) * negative)
    return loss if reduction == 'none' else loss.mean()


class MultiLabelLoss(nn.Module):
    """
    Supervised loss of multi-label data, in the place of CELoss
    """
    def __init__(self, name='bce'):
        super().__init__()
        losses = {'bce': bce_loss, 'asl': asymmetric_loss}
        if name not in losses:
            raise ValueError(f"multilabel_loss must be one of {', '.join(losses)}, got {name}")
        self.loss = losses[name]

    def forward(self, logits, targets, reduction='none'):
        return self.loss(logits, targets, reduction=reduction)


class MultiLabelConsistencyLoss(MultiLabelLoss):
    """
    Consistency loss of multi-label data, in the place of ConsistencyLoss: pseudo-labels and masks are those of every
    label, shape=[Batch size, # of labels], and the mean is over samples and labels
    """
    def forward(self, logits, targets, name='ce', mask=None):
        if name == 'mse':
            loss = F.mse_loss(torch.sigmoid(logits), targets, reduction='none')
        elif name == 'ce':
            loss = self.loss(logits, targets)
        else:
            raise ValueError(f"consistency loss {name} has no multi-label version")
        if mask is not None:
            loss = loss * mask
        return loss.mean()
