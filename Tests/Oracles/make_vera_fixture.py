"""Writes Tests/EngineTests/Fixtures/vera: a VeRA adapter of the fixture decoders/llama as peft saves it, and what peft computes with it.

    python3 Tests/Oracles/make_vera_fixture.py

Deterministic. adapter/ is peft's folder, with the projections and random scales; expected.safetensors has input_ids (tokens) and the
logits (tokens, vocabulary), computed in float64 and stored as float32.
"""

import pathlib

import torch
from peft import VeraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "EngineTests" / "Fixtures"
OUT = FIXTURES / "vera"

torch.manual_seed(301)
base = AutoModelForCausalLM.from_pretrained(FIXTURES / "decoders" / "llama" / "model", attn_implementation="eager", dtype=torch.float32)
model = get_peft_model(base, VeraConfig(r=6, target_modules=["q_proj", "v_proj"], save_projection=True, projection_prng_key=7))
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if "vera_lambda" in name:
            parameter.copy_(torch.randn(parameter.shape) * 0.5)
model.peft_config["default"].base_model_name_or_path = "decoders/llama/model"
model.eval().save_pretrained(OUT / "adapter")
(OUT / "adapter" / "README.md").unlink(missing_ok=True)
ids = torch.randint(3, base.config.vocab_size, (1, 9))
with torch.no_grad():
    logits = model.double()(input_ids=ids).logits[0]
save_file({"input_ids": ids[0].int(), "logits": logits.float()}, OUT / "expected.safetensors")
print(logits.abs().max())
