"""A very small Segment Anything."""

from typing import Any

TINY: dict[str, Any] = {
    "vision_config": {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64,
        "patch_size": 16, "num_pos_feats": 4, "output_channels": 8, "mlp_dim": 16,
        "window_size": 2, "global_attn_indexes": [0],
    },
    "prompt_encoder_config": {"hidden_size": 8, "image_size": 64, "patch_size": 16},
    "mask_decoder_config": {
        "hidden_size": 8, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "iou_head_hidden_dim": 16, "iou_head_depth": 2,
    },
}  # fmt: skip
