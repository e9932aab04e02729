"""A prompt learner in the style of trainer files written for upstream Dassl, on random encoders."""

import os.path as osp

import torch
import torch.nn as nn
from torch.nn import functional as F

from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, load_pretrained_weights

WIDTH, TOKENS, N_CTX = 16, 8, 4


class PromptLearner(nn.Module):
    """Context vectors between a start token and the tokens of the class name."""

    token_prefix: torch.Tensor
    token_suffix: torch.Tensor

    def __init__(self, classnames):
        super().__init__()
        table = torch.randn(len(classnames), TOKENS, WIDTH)
        self.ctx = nn.Parameter(torch.empty(N_CTX, WIDTH).normal_(std=0.02))
        self.register_buffer("token_prefix", table[:, :1])
        self.register_buffer("token_suffix", table[:, 1 + N_CTX :])

    def forward(self):
        ctx = self.ctx.unsqueeze(0).expand(self.token_prefix.size(0), -1, -1)
        return torch.cat([self.token_prefix, ctx, self.token_suffix], dim=1)  # (C, L, D)


class CustomModel(nn.Module):
    """Logits between random image features and the mean of the prompt's tokens."""

    def __init__(self, cfg, classnames):
        super().__init__()
        height, width = cfg.INPUT.SIZE
        self.prompt_learner = PromptLearner(classnames)
        self.image_encoder = nn.Linear(3 * height * width, WIDTH)
        self.text_encoder = nn.Linear(WIDTH, WIDTH)

    def forward(self, image):
        image_features = F.normalize(self.image_encoder(image.flatten(1)), dim=-1)
        text_features = F.normalize(self.text_encoder(self.prompt_learner().mean(1)), dim=-1)
        return 20 * image_features @ text_features.t()


@TRAINER_REGISTRY.register(force=True)
class CtxPlugin(TrainerX):
    def check_cfg(self, cfg):
        assert cfg.TRAINER.CTXPLUGIN.PREC in ["fp16", "fp32", "amp"]

    def build_model(self):
        cfg = self.cfg
        classnames = self.dm.dataset.classnames
        self.model = CustomModel(cfg, classnames)
        for name, param in self.model.named_parameters():
            if "prompt_learner" not in name:
                param.requires_grad_(False)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model.prompt_learner, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        self.optim = build_optimizer(self.model.prompt_learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", self.model.prompt_learner, self.optim, self.sched)
        self.scaler = None

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        output = self.model(image)
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        loss_summary = {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}
        if (self.batch_idx + 1) == self.num_batches:
            print(f"end of epoch {self.epoch + 1}/{self.max_epoch}")
            self.update_lr()
        return loss_summary

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def load_model(self, directory, epoch=None):
        if not directory:
            print("No folder is given, nothing is loaded")
            return
        model_file = "model-best.pth.tar" if epoch is None else "model.pth.tar-" + str(epoch)
        for name in self.get_model_names():
            model_path = osp.join(directory, name, model_file)
            if not osp.exists(model_path):
                raise FileNotFoundError(f'Model not found at "{model_path}"')
            checkpoint = load_checkpoint(model_path)
            state_dict = checkpoint["state_dict"]
            for key in ("token_prefix", "token_suffix"):
                if key in state_dict:
                    del state_dict[key]
            print(f'Loading weights to {name} from "{model_path}" (epoch = {checkpoint["epoch"]})')
            self._models[name].load_state_dict(state_dict, strict=False)
