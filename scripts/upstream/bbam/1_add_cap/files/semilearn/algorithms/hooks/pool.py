# Copyright (c) Microsoft Corporation.
# Licensed under the MIT License.

import copy
import torch

from semilearn.core.hooks import Hook
from semilearn.core.utils import get_data_loader


class PoolHook(Hook):
    """
    Hook for algorithms that label all unlabeled data at the start of every epoch: calls `algorithm.refresh()`, which
    gets outputs of the EMA model from `read`

    Nothing of a refresh is saved: runs are resumed at the start of an epoch, which has a refresh of its own.
    """
    def __init__(self, warmup_epoch=0):
        super().__init__()
        self.warmup_epoch = warmup_epoch

    def before_train_epoch(self, algorithm):
        if algorithm.epoch >= self.warmup_epoch:
            algorithm.refresh()

    @torch.no_grad()
    def read(self, algorithm, name, *keys):
        """
        outputs of the EMA model for all rows of the training data, in their order

        Args:
            algorithm: base algorithm
            name: 'train_lb' or 'train_ulb'
            keys: outputs of the model to return, e.g. 'logits'
        """
        args, loaders = algorithm.args, algorithm.loader_dict
        dset = copy.copy(loaders[name].dataset)
        dset.is_ulb = False
        dset.transform = loaders['eval'].dataset.transform
        # true labels of unlabeled data must not get here, so that no labels do
        dset.targets = torch.zeros(len(dset), algorithm.num_classes)
        # not distributed: every process reads all data, and has the same outputs without any exchange
        loader = get_data_loader(args, dset, args.eval_batch_size, data_sampler=None, num_workers=args.num_workers, drop_last=False)

        algorithm.ema_model.eval()
        outputs = {key: [] for key in keys}
        for data in loader:
            x = data['x_lb']
            if isinstance(x, dict):
                x = {k: v.cuda(algorithm.gpu) for k, v in x.items()}
            else:
                x = x.cuda(algorithm.gpu)
            with algorithm.amp_cm():
                out = algorithm.ema_model(x)
            for key in keys:
                outputs[key].append(out[key].float())
        return [torch.cat(outputs[key]) for key in keys]
