"""Two processes of USB's train.py that share a run on generated multi-label images, for probe.py."""

from __future__ import annotations

import contextlib
import io
import json
import socket
from pathlib import Path
from typing import Any

import torch
from images import multilabel_images
from nets import register
from training import COMMON, NUM_LABELS, QUICK, TABLES, configured

WORLD_SIZE, STEPS = 2, 8
ALGORITHMS = ("freematch", "softmatch", "cap", "bbam")  # whose states are those of the whole batch or pool
STATES = {
    "freematch": {"MaskingHook": ("p_model", "label_hist", "time_p")},
    "softmatch": {"DistAlignHook": ("p_model", "p_target"), "MaskingHook": ("prob_max_mu_t", "prob_max_var_t")},
}
OWN_STATES = ("pseudo_label", "mask", "beta_lb", "beta_ulb")


def work(rank: int, algorithm: str, folder: str, port: int) -> None:
    """One process: train, and write its losses and states."""
    from probe import stand_in

    stand_in()
    from semilearn.core.hooks import EvaluationHook, ParamUpdateHook
    from torch.nn.parallel import DistributedDataParallel

    import train

    torch.set_num_threads(1)
    losses: list[float] = []
    trained: list[Any] = []
    update = ParamUpdateHook.after_train_step
    ParamUpdateHook.after_train_step = lambda hook, a: (losses.append(float(a.out_dict["loss"])), update(hook, a))
    EvaluationHook.after_run = lambda hook, a: (trained.append(a), setattr(a, "results_dict", {}))
    if not torch.cuda.is_available():
        train.send_model_cuda = lambda args, model, clip_batch=True: DistributedDataParallel(model)
    register()
    options = {**COMMON, **QUICK, "net": "small", "num_train_iter": STEPS, "num_eval_iter": STEPS}
    options |= {"algorithm": algorithm, "multilabel": True, "dataset": "bands", "num_classes": NUM_LABELS}
    options |= {"num_labels": 16, "data_dir": folder, "save_dir": f"{folder}/runs", "save_name": algorithm}
    with contextlib.redirect_stdout(io.StringIO()):
        args = configured(**options, multiprocessing_distributed=True)
        args.distributed, args.world_size, args.rank = True, WORLD_SIZE, 0
        args.dist_backend = "nccl" if torch.cuda.is_available() else "gloo"
        args.dist_url = f"tcp://127.0.0.1:{port}"
        train.main_worker(rank, WORLD_SIZE, args)
    run = trained[0]
    states = {
        key: getattr(run.hooks_dict[hook], key) for hook, keys in STATES.get(algorithm, {}).items() for key in keys
    }
    states |= {key: getattr(run, key) for key in OWN_STATES if hasattr(run, key)}
    result = {"losses": losses, "states": {key: value.tolist() for key, value in states.items()}}
    Path(folder, f"{algorithm}{rank}.json").write_text(json.dumps(result))
    torch.distributed.destroy_process_group()


def shared(folder: Path) -> dict[str, dict[str, Any]]:
    """Losses of both processes, and the names of equal and different states, of each algorithm; none for one GPU."""
    from semilearn.algorithms import name2alg

    if torch.cuda.is_available() and torch.cuda.device_count() < WORLD_SIZE:
        return {}
    multilabel_images(folder / "bands", NUM_LABELS, TABLES, TABLES["train"] // 2)
    results = {}
    for name in (name for name in ALGORITHMS if name in name2alg.keys()):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        torch.multiprocessing.spawn(work, args=(name, str(folder), port), nprocs=WORLD_SIZE)
        first, second = (json.loads((folder / f"{name}{rank}.json").read_text()) for rank in range(WORLD_SIZE))
        results[name] = {
            "losses": [first["losses"], second["losses"]],
            "same": [key for key, value in first["states"].items() if second["states"][key] == value],
            "different": [key for key, value in first["states"].items() if second["states"][key] != value],
        }
    return results
