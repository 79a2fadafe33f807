# Copyright (c) Microsoft Corporation.
# Licensed under the MIT License.

import csv
import math
import os

import numpy as np
from PIL import Image
from torchvision import transforms

from semilearn.datasets.augmentation import RandAugment, RandomResizedCropAndInterpolation
from semilearn.datasets.utils import split_ssl_data
from .datasetbase import BasicDataset


def read_csv(path, num_classes):
    """
    Read a table of images. The first column is the path of an image, relative to the folder of the file; every other
    column is a label, named in the header, with 0 or 1 in each row. A row without any is an unlabeled image.

    Returns:
        names of the labels, paths, multi-hot targets of shape=[# of images, # of labels], which images have labels
    """
    with open(path, newline='', encoding='utf-8-sig') as f:
        header, *rows = [row for row in csv.reader(f) if row]
    if len(header) != num_classes + 1:
        raise ValueError(f"{path}: {len(header) - 1} label columns, but num_classes is {num_classes}")
    for number, row in enumerate(rows, start=1):
        cells = set(row[1:])
        if len(row) != len(header) or not (cells <= {'0', '1'} or cells == {''}):
            raise ValueError(f"{path}, row {number} ({row[0]}): each of {num_classes} labels must be 0 or 1, or all of them empty")
    labeled = np.array([row[1] != '' for row in rows], dtype=bool)
    targets = np.array([[cell == '1' for cell in row[1:]] for row in rows], dtype=np.float32).reshape(len(rows), num_classes)
    data = np.array([os.path.join(os.path.dirname(path), row[0]) for row in rows], dtype=object)
    return header[1:], data, targets, labeled


def get_multilabel_csv(args, alg, name, num_labels, num_classes, data_dir='./data', include_lb_to_ulb=True):
    """
    Multi-label images of a folder `<data_dir>/<name>` with train.csv and test.csv, and optionally val.csv (see read_csv).
    num_labels images of train.csv that have labels are labeled data, all others are unlabeled. The best model is chosen
    on val.csv; without it on test.csv, as for the other cv data sets.
    """
    tables = {}
    for split in ['train', 'val', 'test']:
        path = os.path.join(data_dir, name, split + '.csv')
        if split != 'val' or os.path.exists(path):
            tables[split] = read_csv(path, num_classes)
            if tables[split][0] != tables['train'][0]:
                raise ValueError(f"{path}: its labels are not those of train.csv, in their order")
            if split != 'train' and not tables[split][3].all():
                raise ValueError(f"{path}: every image must have labels")

    img_size = args.img_size
    resized = int(math.floor(img_size / args.crop_ratio))

    to_tensor = [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    weak = [transforms.Resize((resized, resized)), transforms.RandomCrop((img_size, img_size)), transforms.RandomHorizontalFlip()]
    strong = [transforms.Resize((resized, resized)), RandomResizedCropAndInterpolation((img_size, img_size)), transforms.RandomHorizontalFlip(), RandAugment(3, 10)]
    transform_weak, transform_strong = transforms.Compose(weak + to_tensor), transforms.Compose(strong + to_tensor)
    # the whole image: a crop could leave out what a label is about
    transform_val = transforms.Compose([transforms.Resize((img_size, img_size))] + to_tensor)

    _, data, targets, labeled = tables['train']
    if alg == 'fullysupervised':
        lb_data, lb_targets, ulb_data = data[labeled], targets[labeled], data
    else:
        lb_data, lb_targets, ulb_data, _ = split_ssl_data(args, data[labeled], targets[labeled], num_classes, num_labels,
                                                          args.ulb_num_labels, include_lb_to_ulb=include_lb_to_ulb)
        ulb_data = np.concatenate([ulb_data, data[~labeled]])
    print("lb count: {}".format(lb_targets.sum(axis=0).astype(int).tolist()))

    lb_dset = MultiLabelDataset(alg, lb_data, lb_targets, num_classes, transform=transform_weak)
    # without targets: no algorithm can read those of unlabeled data
    ulb_dset = MultiLabelDataset(alg, ulb_data, None, num_classes, transform=transform_weak, is_ulb=True, strong_transform=transform_strong)
    eval_dset, *test_dset = [MultiLabelDataset(alg, *tables[split][1:3], num_classes, transform=transform_val) for split in ['val', 'test'] if split in tables]
    return lb_dset, ulb_dset, eval_dset, test_dset[0] if test_dset else None


class MultiLabelDataset(BasicDataset):
    def __sample__(self, idx):
        img = Image.open(self.data[idx]).convert("RGB")
        target = None if self.targets is None else self.targets[idx]
        return img, target
