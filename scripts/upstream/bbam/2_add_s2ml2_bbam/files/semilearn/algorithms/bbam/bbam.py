# Copyright (c) Microsoft Corporation.
# Licensed under the MIT License.

import math
import torch
import torch.nn as nn

from .utils import AngleStatistics, CosinePrototypes, bam_loss, bbam_loss, cosine_similarity_matrix, label_prototypes, safe_arccos
from semilearn.core.algorithmbase import AlgorithmBase
from semilearn.core.utils import ALGORITHMS
from semilearn.algorithms.cap.utils import class_aware_pseudo_labels, column_ranks
from semilearn.algorithms.hooks import PoolHook
from semilearn.algorithms.utils import SSL_Argument, str2bool


class BBAM_Net(nn.Module):
    """
    cosine prototypes in the place of the classifier of a net
    """
    def __init__(self, base, num_classes, scale=20.0, margin=0.4):
        super(BBAM_Net, self).__init__()
        self.backbone = base
        self.num_features = base.num_features
        for name in ('classifier', 'fc', 'head'):
            if isinstance(getattr(base, name, None), nn.Module):
                setattr(base, name, nn.Identity())
        self.head = CosinePrototypes(self.num_features, num_classes, scale=scale, margin=margin)

    def forward(self, x, only_fc=False, only_feat=False, **kwargs):
        if only_fc:
            return self.head(x)['logits']
        feat = self.backbone(x, only_feat=True, **kwargs)
        if only_feat:
            return feat
        return {**self.head(feat), 'feat': feat}

    def no_weight_decay(self):
        names = self.backbone.no_weight_decay() if hasattr(self.backbone, 'no_weight_decay') else []
        return {f'backbone.{name}' for name in names}

    def group_matcher(self, coarse=False, prefix=''):
        return self.backbone.group_matcher(coarse, prefix=f'{prefix}backbone.')


def sample_negatives(similarity, targets, eta=5.0, candidate_ratio=0.8, generator=None):
    """
    draw floor(eta P) negatives of each label, P its number of positives, uniformly from the most similar ones

    Args:
        similarity: to the prototypes of the labels, shape=[N, # of labels]; ties go by row order
        targets: multi-hot, shape=[N, # of labels]
        eta: negatives per positive; a label without positives draws as if it had one
        candidate_ratio: share of the negatives to draw from, never fewer than are drawn; 0 takes the most similar ones
        generator: CPU generator, so that a seed gives the same draw on every device

    Returns:
        bool, shape=[N, # of labels]
    """
    negative = targets == 0
    num_negatives = negative.sum(dim=0)
    # products that are whole but for rounding must not lose or gain one
    num_drawn = (eta * (~negative).sum(dim=0).clamp(min=1).double() + 1e-9).floor().long().minimum(num_negatives)
    num_candidates = (candidate_ratio * num_negatives.double() - 1e-9).ceil().long().maximum(num_drawn)
    candidates = column_ranks(similarity.masked_fill(~negative, -math.inf)) < num_candidates
    lots = torch.rand(similarity.shape, generator=generator).to(similarity.device)
    return column_ranks(lots.masked_fill(~candidates, -1.0)) < num_drawn


@torch.no_grad()
def estimate_pool(scores, feats_lb, feats_ulb, y_lb, eta=5.0, candidate_ratio=0.8, generator=None):
    """
    what an epoch needs of all labeled and unlabeled data

    Args:
        scores: of unlabeled data, shape=[# of unlabeled, # of labels]
        feats_lb: shape=[# of labeled, # of features]
        feats_ulb: shape=[# of unlabeled, # of features]
        y_lb: multi-hot, shape=[# of labeled, # of labels]
        eta, candidate_ratio, generator: as in sample_negatives

    Returns:
        pseudo-labels, shape=[# of unlabeled, # of labels]; beta, 1 on positives and sampled negatives and else 0, of
        labeled and of unlabeled data; AngleStatistics
    """
    pseudo_label, _ = class_aware_pseudo_labels(scores, y_lb.double().mean(dim=0))
    feats, targets = torch.cat((feats_lb, feats_ulb)), torch.cat((y_lb, pseudo_label))
    cosine = cosine_similarity_matrix(feats, label_prototypes(feats, targets))
    negatives = sample_negatives(cosine, targets, eta, candidate_ratio, generator)
    statistics = AngleStatistics.estimate(safe_arccos(cosine), targets, negatives)
    beta = targets + negatives
    return pseudo_label, beta[:len(y_lb)], beta[len(y_lb):], statistics


@ALGORITHMS.register('bbam')
class BBAM(AlgorithmBase):
    """
        S2ML2-BBAM algorithm for multi-label data (https://openreview.net/forum?id=AqcPvWwktK).
        Reference implementation (https://github.com/changchunli/SSMLL-BBAM).

        The net compares features with prototypes by cosine. After a warm-up on labeled data with the binary angular
        margin loss, all data are read at the start of every epoch: unlabeled data get class-aware pseudo-labels as in
        CAP, negatives near each label are sampled, and mean and variance of the angles of both sides of each label are
        estimated. The balanced loss maps the angles so that both sides have one variance.

        Args:
            - args (`argparse`):
                algorithm arguments
            - net_builder (`callable`):
                network loading function
            - tb_log (`TBLog`):
                tensorboard logger
            - logger (`logging.Logger`):
                logger to use
            - scale (`float`, *optional*, default to 20):
                Scale of the logits, scale * (cosine - margin)
            - margin (`float`, *optional*, default to 0.4):
                Cosine at the boundary of positives and negatives
            - eta (`float`, *optional*, default to 5):
                Sampled negatives per positive of a label
            - candidate_ratio (`float`, *optional*, default to 0.8):
                Share of the negatives of a label, the nearest to its prototype, that are sampled from
            - balance (`bool`, *optional*, default to `True`):
                If False, angles are not mapped, and the loss is the binary angular margin loss throughout
            - warmup_epoch (`int`, *optional*, default to 12):
                Epochs on labeled data only
    """
    supports_multilabel = True

    def __init__(self, args, net_builder, tb_log=None, logger=None):
        if not getattr(args, 'multilabel', False):
            raise ValueError("bbam is for multi-label data, set multilabel to True")
        super().__init__(args, net_builder, tb_log, logger)
        self.init(scale=args.scale, margin=args.margin, eta=args.eta, candidate_ratio=args.candidate_ratio,
                  balance=args.balance, warmup_epoch=args.warmup_epoch)

    def init(self, scale=20.0, margin=0.4, eta=5.0, candidate_ratio=0.8, balance=True, warmup_epoch=12):
        self.scale = scale
        self.margin = margin
        self.eta = eta
        self.candidate_ratio = candidate_ratio
        self.balance = balance
        self.warmup_epoch = warmup_epoch

    def set_hooks(self):
        self.register_hook(PoolHook(self.args.warmup_epoch), "PoolHook")
        super().set_hooks()

    def set_model(self):
        model = super().set_model()
        return BBAM_Net(model, self.num_classes, self.args.scale, self.args.margin)

    def set_ema_model(self):
        ema_model = self.net_builder(num_classes=self.num_classes)
        ema_model = BBAM_Net(ema_model, self.num_classes, self.args.scale, self.args.margin)
        ema_model.load_state_dict(self.check_prefix_state_dict(self.model.state_dict()))
        return ema_model

    def refresh(self):
        """
        pseudo-labels, sampled negatives and statistics of all data
        """
        feats_lb, = self.call_hook("read", "PoolHook", "train_lb", "feat")
        feats_ulb, cosine = self.call_hook("read", "PoolHook", "train_ulb", "feat", "cosine")
        y_lb = torch.as_tensor(self.loader_dict['train_lb'].dataset.targets).to(cosine)
        # the same draw in every process
        generator = torch.Generator().manual_seed(self.args.seed * 1_000_003 + self.epoch)
        self.pseudo_label, self.beta_lb, self.beta_ulb, self.statistics = estimate_pool(
            cosine, feats_lb, feats_ulb, y_lb, self.eta, self.candidate_ratio, generator)

    def element_loss(self, cosine, targets):
        if not self.balance:
            return bam_loss(cosine, targets, scale=self.scale, margin=self.margin)
        return bbam_loss(cosine, targets, self.statistics, scale=self.scale, margin=self.margin)

    def warmup_step(self, x_lb, y_lb):
        with self.amp_cm():
            outs_x_lb = self.model(x_lb)
            sup_loss = bam_loss(outs_x_lb['cosine'], y_lb, scale=self.scale, margin=self.margin).mean()

        out_dict = self.process_out_dict(loss=sup_loss, feat={'x_lb': outs_x_lb['feat']})
        log_dict = self.process_log_dict(sup_loss=sup_loss.item(), unsup_loss=0.0, total_loss=sup_loss.item(), util_ratio=0.0)
        return out_dict, log_dict

    def train_step(self, idx_lb, x_lb, y_lb, idx_ulb, x_ulb_s):
        if self.epoch < self.warmup_epoch:
            return self.warmup_step(x_lb, y_lb)

        num_lb = y_lb.shape[0]
        beta_lb, beta_ulb, pseudo_label = self.beta_lb[idx_lb], self.beta_ulb[idx_ulb], self.pseudo_label[idx_ulb]

        # inference and calculate sup/unsup losses
        with self.amp_cm():
            if self.use_cat:
                outputs = self.model(torch.cat((x_lb, x_ulb_s)))
                cosine_x_lb, cosine_x_ulb_s = outputs['cosine'][:num_lb], outputs['cosine'][num_lb:]
                feats_x_lb, feats_x_ulb_s = outputs['feat'][:num_lb], outputs['feat'][num_lb:]
            else:
                outs_x_lb = self.model(x_lb)
                cosine_x_lb, feats_x_lb = outs_x_lb['cosine'], outs_x_lb['feat']
                outs_x_ulb_s = self.model(x_ulb_s)
                cosine_x_ulb_s, feats_x_ulb_s = outs_x_ulb_s['cosine'], outs_x_ulb_s['feat']
            feat_dict = {'x_lb': feats_x_lb, 'x_ulb_s': feats_x_ulb_s}

            sup_loss = (beta_lb * self.element_loss(cosine_x_lb, y_lb)).mean()
            unsup_loss = (beta_ulb * self.element_loss(cosine_x_ulb_s, pseudo_label)).mean()
            total_loss = sup_loss + self.lambda_u * unsup_loss

        out_dict = self.process_out_dict(loss=total_loss, feat=feat_dict)
        log_dict = self.process_log_dict(sup_loss=sup_loss.item(),
                                         unsup_loss=unsup_loss.item(),
                                         total_loss=total_loss.item(),
                                         util_ratio=beta_ulb.mean().item())
        return out_dict, log_dict

    @staticmethod
    def get_argument():
        return [
            SSL_Argument('--scale', float, 20.0),
            SSL_Argument('--margin', float, 0.4),
            SSL_Argument('--eta', float, 5.0),
            SSL_Argument('--candidate_ratio', float, 0.8),
            SSL_Argument('--balance', str2bool, True),
            SSL_Argument('--warmup_epoch', int, 12),
        ]
