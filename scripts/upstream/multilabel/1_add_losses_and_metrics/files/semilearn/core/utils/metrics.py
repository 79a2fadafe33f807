# Copyright (c) Microsoft Corporation.
# Licensed under the MIT License.

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

# what evaluation gives, the first of them chooses the best model unless args.best_metric names another
METRICS = ('top-1-acc', 'top-5-acc', 'balanced_acc', 'precision', 'recall', 'F1')
MULTILABEL_METRICS = ('mAP', 'F1', 'micro_F1', 'precision', 'recall')


def multilabel_metrics(targets, probs, threshold=0.5):
    """
    metrics of multi-label predictions.

    Args:
        targets: multi-hot targets, shape=[# of samples, # of labels]
        probs: probability of every label, shape=[# of samples, # of labels]
        threshold: probability from which a label counts as predicted, for all metrics but mAP

    Returns:
        dict of mAP (mean over the labels with a positive among the targets), macro and micro F1, precision, recall
    """
    targets, probs = np.asarray(targets).astype(int), np.asarray(probs)
    preds = (probs >= threshold).astype(int)
    present = targets.any(axis=0)
    mAP = average_precision_score(targets[:, present], probs[:, present])
    micro_F1 = f1_score(targets, preds, average='micro', zero_division=0)
    F1, precision, recall = [score(targets, preds, average='macro', zero_division=0) for score in (f1_score, precision_score, recall_score)]
    return {'mAP': float(mAP), 'F1': float(F1), 'micro_F1': float(micro_F1), 'precision': float(precision), 'recall': float(recall)}
