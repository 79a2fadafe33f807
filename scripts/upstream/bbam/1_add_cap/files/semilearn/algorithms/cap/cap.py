# Copyright (c) Microsoft Corporation.
# Licensed under the MIT License.

import torch

from .utils import class_aware_pseudo_labels
from semilearn.core.algorithmbase import AlgorithmBase
from semilearn.core.criterions import asymmetric_loss
from semilearn.core.utils import ALGORITHMS
from semilearn.algorithms.hooks import PoolHook
from semilearn.algorithms.utils import SSL_Argument


@ALGORITHMS.register('cap')
class CAP(AlgorithmBase):
    """
        CAP algorithm for multi-label data (https://arxiv.org/abs/2305.02795).
        Reference implementation (https://github.com/xiemk/SSMLL-CAP).

        After a warm-up on labeled data, the EMA model scores all unlabeled data at the start of every epoch, and the
        highest scores of each label become its positives, as many as its share in the labeled data gives.

        Args:
            - args (`argparse`):
                algorithm arguments
            - net_builder (`callable`):
                network loading function
            - tb_log (`TBLog`):
                tensorboard logger
            - logger (`logging.Logger`):
                logger to use
            - gamma_negative (`float`, *optional*, default to 4):
                Focal exponent of negatives in the asymmetric loss
            - gamma_positive (`float`, *optional*, default to 0):
                Focal exponent of positives in the asymmetric loss
            - asl_clip (`float`, *optional*, default to 0.05):
                Probability up to which a negative costs nothing in the asymmetric loss
            - positive_share (`float`, *optional*, default to 1.0):
                Share of the pseudo-positives of a label that are trained on, those with the highest scores
            - negative_share (`float`, *optional*, default to 0.998):
                Share of the pseudo-negatives of a label that are trained on, those with the lowest scores
            - warmup_epoch (`int`, *optional*, default to 12):
                Epochs on labeled data only
    """
    supports_multilabel = True

    def __init__(self, args, net_builder, tb_log=None, logger=None):
        if not getattr(args, 'multilabel', False):
            raise ValueError("cap is for multi-label data, set multilabel to True")
        super().__init__(args, net_builder, tb_log, logger)
        self.init(gamma_negative=args.gamma_negative, gamma_positive=args.gamma_positive, asl_clip=args.asl_clip,
                  positive_share=args.positive_share, negative_share=args.negative_share, warmup_epoch=args.warmup_epoch)

    def init(self, gamma_negative=4.0, gamma_positive=0.0, asl_clip=0.05, positive_share=1.0, negative_share=0.998, warmup_epoch=12):
        self.gamma_negative = gamma_negative
        self.gamma_positive = gamma_positive
        self.asl_clip = asl_clip
        self.positive_share = positive_share
        self.negative_share = negative_share
        self.warmup_epoch = warmup_epoch

    def set_hooks(self):
        self.register_hook(PoolHook(self.args.warmup_epoch), "PoolHook")
        super().set_hooks()

    def refresh(self):
        """
        pseudo-labels and mask of all unlabeled data
        """
        logits, = self.call_hook("read", "PoolHook", "train_ulb", "logits")
        y_lb = torch.as_tensor(self.loader_dict['train_lb'].dataset.targets)
        self.pseudo_label, self.mask = class_aware_pseudo_labels(
            logits, y_lb.double().mean(dim=0), self.positive_share, self.negative_share)

    def element_loss(self, logits, targets):
        return asymmetric_loss(logits, targets, self.gamma_negative, self.gamma_positive, self.asl_clip)

    def warmup_step(self, x_lb, y_lb):
        with self.amp_cm():
            outs_x_lb = self.model(x_lb)
            sup_loss = self.element_loss(outs_x_lb['logits'], y_lb).mean()

        out_dict = self.process_out_dict(loss=sup_loss, feat={'x_lb': outs_x_lb['feat']})
        log_dict = self.process_log_dict(sup_loss=sup_loss.item(), unsup_loss=0.0, total_loss=sup_loss.item(), util_ratio=0.0)
        return out_dict, log_dict

    def train_step(self, x_lb, y_lb, idx_ulb, x_ulb_s):
        if self.epoch < self.warmup_epoch:
            return self.warmup_step(x_lb, y_lb)

        num_lb = y_lb.shape[0]
        pseudo_label, mask = self.pseudo_label[idx_ulb], self.mask[idx_ulb]

        # inference and calculate sup/unsup losses
        with self.amp_cm():
            if self.use_cat:
                outputs = self.model(torch.cat((x_lb, x_ulb_s)))
                logits_x_lb, logits_x_ulb_s = outputs['logits'][:num_lb], outputs['logits'][num_lb:]
                feats_x_lb, feats_x_ulb_s = outputs['feat'][:num_lb], outputs['feat'][num_lb:]
            else:
                outs_x_lb = self.model(x_lb)
                logits_x_lb, feats_x_lb = outs_x_lb['logits'], outs_x_lb['feat']
                outs_x_ulb_s = self.model(x_ulb_s)
                logits_x_ulb_s, feats_x_ulb_s = outs_x_ulb_s['logits'], outs_x_ulb_s['feat']
            feat_dict = {'x_lb': feats_x_lb, 'x_ulb_s': feats_x_ulb_s}

            sup_loss = self.element_loss(logits_x_lb, y_lb).mean()
            unsup_loss = (mask * self.element_loss(logits_x_ulb_s, pseudo_label)).mean()
            total_loss = sup_loss + self.lambda_u * unsup_loss

        out_dict = self.process_out_dict(loss=total_loss, feat=feat_dict)
        log_dict = self.process_log_dict(sup_loss=sup_loss.item(),
                                         unsup_loss=unsup_loss.item(),
                                         total_loss=total_loss.item(),
                                         util_ratio=mask.mean().item())
        return out_dict, log_dict

    @staticmethod
    def get_argument():
        return [
            SSL_Argument('--gamma_negative', float, 4.0),
            SSL_Argument('--gamma_positive', float, 0.0),
            SSL_Argument('--asl_clip', float, 0.05),
            SSL_Argument('--positive_share', float, 1.0),
            SSL_Argument('--negative_share', float, 0.998),
            SSL_Argument('--warmup_epoch', int, 12),
        ]
