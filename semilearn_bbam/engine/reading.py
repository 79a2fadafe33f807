"""Reading whole pools with a net of the run: outputs, scores, thresholds and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from semilearn_bbam.config import Settings
from semilearn_bbam.engine.compiling import uncompiled
from semilearn_bbam.engine.hooks import check_finite
from semilearn_bbam.metrics import multilabel_metrics
from semilearn_bbam.pseudo_labels import class_thresholds
from semilearn_bbam.util.distributed import World
from semilearn_bbam.util.progress import bars_hidden


class PoolReading:
    """The part of an algorithm that passes whole pools through a net, in their order."""

    args: Settings
    world: World
    ema_model: nn.Module
    loader_dict: dict[str, Any]
    dataset_dict: dict[str, Any]
    positive_rate: Tensor
    amp_cm: Callable[[], Any]
    to_device: Callable[[Any], Any]
    scores_of: Callable[[Mapping[str, Tensor], Settings, Mapping[str, Any]], Tensor]

    @torch.no_grad()
    def batch_outputs(self, name: str, model: nn.Module | None = None, **options: Any) -> Iterator[Any]:
        """Outputs of a net in evaluation mode (the EMA model by default) for each batch of a pool.

        Of several processes each reads its part of the rows. options: further arguments of the net.
        """
        model = model or self.ema_model
        was_training = model.training
        model.eval()
        try:
            for batch in tqdm(self.loader_dict[name], name, leave=False, dynamic_ncols=True, disable=bars_hidden()):
                with self.amp_cm(), uncompiled(self):
                    outputs = model(self.to_device(batch["x_lb"]), **options)
                yield outputs
        finally:
            model.train(was_training)

    def read(self, name: str, model: nn.Module | None = None, gather: bool = True) -> dict[str, Tensor]:
        """Outputs of a net over a whole pool; with gather=False those of the rows of this process.

        NonFiniteError where one of them is infinite or undefined.
        """
        batches = list(self.batch_outputs(name, model))
        outputs = {key: torch.cat([batch[key].float() for batch in batches]) for key in batches[0]}
        if gather:
            outputs = {key: self.world.all_gather_rows(value) for key, value in outputs.items()}
        check_finite(self, outputs, f"the net's outputs on {name}")
        return outputs

    def scores(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Scores [N,K] in [0, 1] from the outputs of a net of the run."""
        return self.scores_of(outputs, self.args, {})

    def predict(self, name: str) -> tuple[Tensor, Tensor | None]:
        """Scores of the EMA model over a pool, [N,K], and the pool's targets where it has any."""
        return self.scores(self.read(name)), self.dataset_dict[name].targets

    def prior_thresholds(self) -> Tensor:
        """The threshold of each label that gives the pool its labelled frequency, [K] on the CPU; inf for none."""
        scores, _ = self.predict("prior")
        return class_thresholds(scores, self.positive_rate.to(scores.device)).cpu()

    def evaluate(
        self, eval_dest: str = "validation", out_key: str = "logits", return_logits: bool = False
    ) -> dict[str, Any]:
        """Multi-label metrics of the EMA model, with its own buffers, keyed `<eval_dest>/<metric>`."""
        outputs = self.read(eval_dest)
        pool = self.dataset_dict[eval_dest]
        metrics = multilabel_metrics(self.scores(outputs).cpu(), pool.targets, known=pool.known)
        values: dict[str, Any] = {f"{eval_dest}/{key}": value for key, value in metrics.items()}
        if return_logits:
            values[f"{eval_dest}/logits"] = outputs[out_key].cpu().numpy()
        return values
