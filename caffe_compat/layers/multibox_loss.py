"""MultiBoxLoss: SSD's loss of the places and classes of boxes around priors (Liu et al., ECCV 2016)."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.box_matching import UNMATCHED, match, suppress
from caffe_compat.layers.shared.boxes import decode, encode, overlaps
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.log_loss import LOG_FLT_MIN, floored_log_loss
from caffe_compat.layers.shared.loss import check_same_batch, normalization_mode, random_normalization
from caffe_compat.proto import caffe_pb2

_ROW = 8  # item, label, instance, xmin, ymin, xmax, ymax, difficult


class _Priors(NamedTuple):
    boxes: Tensor  # (P, 4)
    variances: Tensor  # (P, 4)

    def decode(self, layer: "MultiBoxLoss", offsets: Tensor) -> Tensor:
        return decode(offsets, self.boxes, None if layer.variance_in_target else self.variances, layer.code_type)

    def of(self, numbers: Tensor) -> "_Priors":
        """Some of them."""
        return _Priors(self.boxes[numbers], self.variances[numbers])


class _Truths(NamedTuple):
    """Ground truth of one image."""

    boxes: Tensor  # (G, 4)
    labels: Tensor  # (G) int64


class _Matches(NamedTuple):
    """Of each image (N), row of places (L, one for each class with ``share_location: false``) and prior (P)."""

    places: Tensor  # (N, L, P) int64: the number of the truth, UNMATCHED or IGNORED
    overlaps: Tensor  # (N, L, P)
    boxes: Tensor  # (N, L, P, 4): the truth's box; anything where there is none
    labels: Tensor  # (N, L, P): the truth's label; the background's where there is none
    has_truth: Tensor  # (N): whether the image has any

    @property
    def positive(self) -> Tensor:
        """(N, L, P): whether there is a truth."""
        return self.places > UNMATCHED


class _Divided(torch.autograd.Function):
    """Offsets over variances; SSD hands the quotient's gradient on as that of the offsets."""

    @staticmethod
    def forward(ctx: Any, offsets: Tensor, variances: Tensor) -> Tensor:
        return offsets / variances

    @staticmethod
    def backward(ctx: Any, *top_diffs: Tensor) -> tuple[Tensor, None]:
        return top_diffs[0], None


@register("MultiBoxLoss")
class MultiBoxLoss(Layer):
    """Bottoms loc (N, P * L * 4), conf (N, P * C), priors (1, 2, P * 4) and ground truth (1, 1, G, 8) -> scalar.

    P priors, C classes, L one, or C with ``share_location: false``.  A row of the ground truth is item, label,
    instance, xmin, ymin, xmax, ymax, difficult; item -1 is no box.  The loss is ``loc_weight`` times the loss of the
    offsets of matched priors and the loss of classes, of matched priors and of the negatives that mining chose, over
    the normaliser (``loss_param``; VALID: the number of matched priors).  ``propagate_down: false`` for loc or conf
    leaves that part out of the loss, as in SSD.
    """

    param_fields = ("multibox_loss_param", "loss_param")
    bottom_count = (4, 4)
    is_loss = True
    keeps_forward = True
    no_gradient_bottoms = (2, 3)
    graph_obstacle = "has as many terms as priors were matched"

    def setup(self, loc: Shape, conf: Shape, priors: Shape, truth: Shape) -> None:
        param = self.param.multibox_loss_param
        self.classes = int(param.num_classes)
        self.background = int(np.uint32(param.background_label_id).astype(np.int32))
        self.shared = bool(param.share_location)
        self.mining = param.MiningType.Name(param.mining_type)
        self.conf_type = param.ConfLossType.Name(param.conf_loss_type)
        self.loc_type = param.LocLossType.Name(param.loc_loss_type)
        self.code_type = caffe_pb2.PriorBoxParameter.CodeType.Name(param.code_type)
        per_prediction = param.MatchType.Name(param.match_type) == "PER_PREDICTION"
        self.match_threshold = param.overlap_threshold if per_prediction else None
        self.match_priors, self.ignore_crossing = param.use_prior_for_matching, param.ignore_cross_boundary_bbox
        self.loc_weight, self.bp_inside = param.loc_weight, param.bp_inside
        self.variance_in_target = param.encode_variance_in_target
        self.difficult, self.agnostic = param.use_difficult_gt, param.map_object_to_agnostic
        self.neg_pos_ratio, self.neg_overlap = param.neg_pos_ratio, param.neg_overlap
        self.sample_size, self.nms_priors = int(param.sample_size), param.use_prior_for_nms
        self.nms_threshold = param.nms_param.nms_threshold if param.HasField("nms_param") else 0.0
        self.nms_top_k = int(param.nms_param.top_k)
        self.mode = normalization_mode(self.param.loss_param)
        given = list(self.param.propagate_down)
        self.counts_loc, self.counts_conf = (given[0], given[1]) if len(given) > 1 else (True, True)
        self._check_fields()

    def _check_fields(self) -> None:
        param, background = self.param.multibox_loss_param, self.background
        for field in ("objectness_score", "ignore_difficult_gt"):
            if param.HasField(field):
                self.fail(f"multibox_loss_param.{field} is not SSD's but of a later fork, and not read; remove it")
        if self.classes < 1:
            self.fail("multibox_loss_param.num_classes is missing or 0; expected at least 1")
        if self.mining != "NONE" and not self.shared:
            self.fail("share_location is false with mining_type " + self.mining + "; mine with shared locations only")
        if self.conf_type == "SOFTMAX" and not 0 <= background < self.classes:
            self.fail(f"background_label_id is {background}; expected 0 to {self.classes - 1} for SOFTMAX")
        if self.agnostic and self.classes != (2 if background >= 0 else 1):
            self.fail(f"num_classes is {self.classes} with map_object_to_agnostic; expected 2: background and object")
        if param.HasField("do_neg_mining"):
            if param.do_neg_mining != (self.mining != "NONE"):
                self.fail(
                    f"do_neg_mining is {param.do_neg_mining} and mining_type {self.mining}; keep mining_type only"
                )
            self.warn("do_neg_mining is deprecated; mining_type says the same")
        if self.mining == "HARD_EXAMPLE" and self.sample_size < 1:
            self.fail(f"sample_size is {self.sample_size}; expected at least 1")

    def infer_shapes(self, loc: Shape, conf: Shape, priors: Shape, truth: Shape) -> list[Shape]:
        check_same_batch(self, loc, conf)
        if len(priors) < 3 or priors[1] != 2 or count(priors, 2) % 4:
            self.fail(f"priors have shape {priors}; expected (1, 2, 4 for each prior), from PriorBox")
        number = count(priors, 2) // 4
        rows = 1 if self.shared else self.classes
        expected = {"loc": (count(loc, 1), number * rows * 4), "conf": (count(conf, 1), number * self.classes)}
        for name, (came, wanted) in expected.items():
            if came != wanted:
                self.fail(f"{name} has {came} values an image; expected {wanted} for {number} priors; check num_output")
        if not truth or truth[-1] != _ROW:
            self.fail(f"ground truth has shape {truth}; expected (1, 1, boxes, {_ROW}), as from AnnotatedData")
        return [()]

    def forward(self, loc: Tensor, conf: Tensor, priors: Tensor, truth: Tensor) -> Tensor:
        given = _Priors(*priors.detach()[0].reshape(2, -1, 4).unbind(0))
        images, number = len(loc), len(given.boxes)
        loc = loc.reshape(images, number, -1, 4).transpose(1, 2)  # (N, L, P, 4)
        conf = conf.reshape(images, number, self.classes)
        truths = self._read_truths(truth, images, given.boxes)
        self._check_priors(given)
        matches = self._match(truths, loc.detach(), given)
        negative = torch.zeros(images, number, dtype=torch.bool, device=loc.device)
        if self.mining != "NONE":
            matches, negative = self._mine(matches, loc.detach(), conf.detach(), given)
        normalizer = self._normalizer(images, number, matches.positive)
        loss = conf.new_zeros(())
        if self.counts_loc:
            loss = loss + self.loc_weight * self._loc_losses(loc, matches, given).sum() / normalizer
        if self.counts_conf:
            loss = loss + self._conf_loss(conf, matches, negative) / normalizer
        return loss

    def _normalizer(self, images: int, priors: int, positive: Tensor) -> Tensor | int:
        if self.mode == "VALID":
            return positive.sum().clamp(min=1)
        return max(1, {"FULL": images * priors, "BATCH_SIZE": images, "NONE": 1}[self.mode])

    # -- ground truth and matches -------------------------------------------------------

    def _read_truths(self, truth: Tensor, images: int, like: Tensor) -> dict[int, _Truths]:
        """The boxes of each image that has any, on the device of ``like``."""
        rows = truth.detach().reshape(-1, _ROW).cpu().numpy()
        items, labels = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
        used = (items >= 0) & (items < images)
        if (labels[used] == self.background).any():
            self.fail(f"a box of the ground truth has label {self.background}, the background's; correct the labels")
        if not self.difficult:
            used &= rows[:, 7] == 0
        limit = 2**31 if self.agnostic and self.mining == "NONE" else self.classes
        wrong = labels[used & ((labels < 0) | (labels >= limit))]
        if wrong.size:
            self.fail(
                f"a box of the ground truth has label {wrong[0]}; expected 0 to {limit - 1}; correct the labels or "
                "num_classes"
            )
        found = {}
        for image in np.unique(items[used]).tolist():
            own = used & (items == image)
            boxes = torch.from_numpy(rows[own, 3:7]).to(like)
            found[image] = _Truths(boxes, torch.from_numpy(labels[own]).to(like.device))
        return found

    def _check_priors(self, priors: _Priors) -> None:
        if self.code_type != "CORNER" and bool((priors.boxes[:, 2:] <= priors.boxes[:, :2]).any()):
            self.fail(f"a prior box has no width or height; code_type {self.code_type} divides by them")
        if bool((priors.variances <= 0).any()):
            self.fail("a prior box has a variance of 0 or less; expected more, offsets are divided by it")

    def _match(self, truths: dict[int, _Truths], loc: Tensor, priors: _Priors) -> _Matches:
        shape = loc.shape[:3]
        found = _Matches(
            torch.full(shape, UNMATCHED, device=loc.device),
            loc.new_zeros(shape),
            loc.new_zeros((*shape, 4)),
            torch.full(shape, self.background, device=loc.device),
            torch.tensor([image in truths for image in range(shape[0])], device=loc.device),
        )
        for image, (own_boxes, labels) in truths.items():
            for row in range(shape[1]):
                if not self.shared and row == self.background:
                    continue
                wanted = torch.arange(len(labels), device=labels.device)
                if not self.shared and not self.match_priors:
                    wanted = (labels == row).nonzero().flatten()
                predicted = priors.boxes if self.match_priors else priors.decode(self, loc[image, row])
                shared = overlaps(predicted.unsqueeze(1), own_boxes[wanted].unsqueeze(0))
                outside = ((predicted < 0) | (predicted > 1)).any(1) if self.ignore_crossing else None
                places, largest = match(shared, self.match_threshold, outside)
                if len(wanted):
                    places = torch.where(places >= 0, wanted[places.clamp(min=0)], places)
                known = places.clamp(min=0)
                if not self.shared and self.match_priors:  # of all truths, those of this row's class
                    places = torch.where((places >= 0) & (labels[known] == row), places, UNMATCHED)
                found.places[image, row], found.overlaps[image, row] = places, largest
                found.boxes[image, row] = own_boxes[known]
                found.labels[image, row] = torch.where(places >= 0, labels[known], self.background)
        return found

    # -- mining -------------------------------------------------------------------------

    def _mine(self, matches: _Matches, loc: Tensor, conf: Tensor, priors: _Priors) -> tuple[_Matches, Tensor]:
        """The matches that count, and (N, P): which priors count as background.  Places are shared (L is 1)."""
        places, positive = matches.places[:, 0], matches.positive[:, 0]
        losses = self._conf_losses(conf, matches.labels[:, 0])
        eligible = (places == UNMATCHED) & (matches.overlaps[:, 0] < self.neg_overlap)
        wanted = (positive.sum(1).float() * self.neg_pos_ratio).int()
        if self.mining == "HARD_EXAMPLE":
            eligible, wanted = torch.ones_like(eligible), torch.full_like(wanted, self.sample_size)
            losses[positive] += self._loc_losses(loc, matches, priors).sum(1)
        # An image without ground truth gives no negatives, as in SSD.
        wanted = wanted * matches.has_truth
        if self.nms_threshold > 0:
            chosen = self._choose_apart(losses, eligible, wanted, self._boxes_for_nms(loc[:, 0], priors))
        else:
            hardest = torch.where(eligible, losses, -torch.inf)
            order = torch.sort(hardest, dim=1, descending=True, stable=True).indices
            ranks = order.argsort(1)
            chosen = eligible & (ranks < wanted.unsqueeze(1))
        if self.mining == "HARD_EXAMPLE":
            kept = torch.where(positive & ~chosen, UNMATCHED, places)
            matches = matches._replace(places=kept.unsqueeze(1))
        return matches, chosen & (places == UNMATCHED)

    def _boxes_for_nms(self, loc: Tensor, priors: _Priors) -> Tensor:
        return priors.boxes.expand_as(loc) if self.nms_priors else priors.decode(self, loc)

    def _choose_apart(self, losses: Tensor, eligible: Tensor, wanted: Tensor, boxes: Tensor) -> Tensor:
        """The highest losses of each image whose boxes do not overlap."""
        chosen = torch.zeros_like(eligible)
        for image, number in enumerate(wanted.tolist()):
            candidates = eligible[image].nonzero().flatten()
            kept = suppress(boxes[image, candidates], losses[image, candidates], self.nms_threshold, self.nms_top_k)
            chosen[image, candidates[torch.tensor(kept[:number], dtype=torch.long, device=chosen.device)]] = True
        return chosen

    # -- losses -------------------------------------------------------------------------

    def _loc_losses(self, loc: Tensor, matches: _Matches, priors: _Priors) -> Tensor:
        """(matched, 4) losses of the offsets from matched priors; ``loc`` (N, L, P, 4)."""
        image, row, number = matches.positive.nonzero(as_tuple=True)
        found, own = loc[image, row, number], priors.of(number)
        divisors = None if self.variance_in_target else own.variances
        target = encode(matches.boxes[image, row, number], own.boxes, divisors, self.code_type)
        if self.bp_inside:
            edges = own.boxes if self.match_priors else own.decode(self, found.detach())
            found = torch.where((edges < 0) | (edges > 1), target, found)
        if self.variance_in_target:
            found, target = _Divided.apply(found, own.variances), target / own.variances
        if self.loc_type == "SMOOTH_L1":
            return functional.smooth_l1_loss(found, target, reduction="none")
        return 0.5 * (found - target).square()

    def _conf_losses(self, conf: Tensor, labels: Tensor) -> Tensor:
        """(N, P) losses of the scores (N, P, C) for ``labels`` (N, P), to choose by; without a gradient."""
        if self.conf_type == "SOFTMAX":
            picked = conf.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
            return -picked.clamp(min=LOG_FLT_MIN)
        targets = (labels.unsqueeze(-1) == torch.arange(self.classes, device=conf.device)).to(conf.dtype)
        return functional.binary_cross_entropy_with_logits(conf, targets, reduction="none").sum(-1)

    def _conf_loss(self, conf: Tensor, matches: _Matches, negative: Tensor) -> Tensor:
        """The sum over all that counts: matched priors and negatives, or all priors without mining."""
        positive, labels = matches.positive, matches.labels
        if self.agnostic:
            labels = torch.where(positive, self.background + 1, labels)
        if self.mining == "NONE":
            return self._loss_of_all(conf, positive, labels)
        image, row, prior = positive.nonzero(as_tuple=True)
        scores = torch.cat((conf[image, prior], conf[negative]))
        wanted = labels[image, row, prior]
        wanted = torch.cat((wanted, torch.full((len(scores) - len(wanted),), self.background, device=conf.device)))
        if self.conf_type == "SOFTMAX":
            return floored_log_loss(scores.unsqueeze(2), wanted.unsqueeze(1), scores.new_ones(len(scores), 1)).sum()
        return self._logistic(scores, wanted + self.classes * torch.arange(len(scores), device=conf.device), wanted)

    def _loss_of_all(self, conf: Tensor, positive: Tensor, labels: Tensor) -> Tensor:
        images, rows, priors = positive.shape
        if self.conf_type == "SOFTMAX":
            wanted = labels.new_full((images, priors), self.background)
            for own in range(rows):  # the last class counts where several match
                wanted = torch.where(positive[:, own], labels[:, own], wanted)
            ones = conf.new_ones(images * priors, 1)
            return floored_log_loss(conf.reshape(-1, self.classes, 1), wanted.view(-1, 1), ones).sum()
        image, row, prior = positive.nonzero(as_tuple=True)
        label = labels[image, row, prior]
        # SSD steps to an image's targets by P, not by P * C, so that those of all images but the first are misplaced.
        return self._logistic(conf.reshape(-1, self.classes), image * priors + prior * self.classes + label, label)

    def _logistic(self, scores: Tensor, ones: Tensor, labels: Tensor) -> Tensor:
        """``ones``: at which places of the targets, row by row, 1 stands; elsewhere the number of the background."""
        targets = torch.full((scores.numel(),), float(self.background), dtype=scores.dtype, device=scores.device)
        inside = (labels >= 0) & (labels < self.classes)
        targets[ones[inside]] = 1
        return functional.binary_cross_entropy_with_logits(scores, targets.view(scores.shape), reduction="sum")

    @classmethod
    def example(cls, dice: Dice) -> Example:
        images, priors, classes = dice.integer(1, 3), dice.integer(3, 8), dice.integer(2, 5)
        mining = dice.pick("NONE", "MAX_NEGATIVE", "HARD_EXAMPLE")
        shared = mining != "NONE" or bool(dice.integer(0, 1))
        low = dice.rng.uniform(0, 0.6, (priors, 2))
        boxes = np.concatenate((low, low + dice.rng.uniform(0.2, 0.5, (priors, 2))), 1)
        variances = np.tile(np.array([0.1, 0.1, 0.2, 0.2]), (priors, 1))
        truths = dice.integer(1, 5)
        near = boxes[dice.rng.integers(0, priors, truths)] + dice.rng.uniform(-0.05, 0.05, (truths, 4))
        columns = np.stack((dice.indices(images, truths), 1 + dice.indices(classes - 1, truths), np.zeros(truths)), 1)
        rows = np.concatenate((columns, near, dice.indices(2, truths, 1)), 1)
        fields = f"""
            loss_param {{ {random_normalization(dice)} }}
            multibox_loss_param {{
                num_classes: {classes} share_location: {str(shared).lower()} mining_type: {mining}
                match_type: {dice.pick("BIPARTITE", "PER_PREDICTION")} sample_size: {dice.integer(2, 6)}
                conf_loss_type: {dice.pick("SOFTMAX", "LOGISTIC")} loc_loss_type: {dice.pick("L2", "SMOOTH_L1")}
                code_type: {dice.pick("CORNER", "CENTER_SIZE", "CORNER_SIZE")} use_difficult_gt: {dice.switch()}
                encode_variance_in_target: {dice.switch()} loc_weight: {dice.number(0.5, 2)}
                use_prior_for_matching: {dice.switch()} overlap_threshold: 0.4 bp_inside: {dice.switch()}
            }}"""
        bottoms = [
            0.1 * dice.normal(images, priors * 4 * (1 if shared else classes)),
            dice.normal(images, priors * classes),
            np.stack((boxes, variances)).reshape(1, 2, -1),
            rows.reshape(1, 1, truths, _ROW),
        ]
        return Example(fields, [bottom.astype(np.float32) for bottom in bottoms])
