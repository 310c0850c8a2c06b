"""Which model a request means."""

from pathlib import Path
from typing import Any

from training.networks import build
from training.networks.checkpoint import save
from training.networks.configs import VaeConfig
from training.networks.header import Description


async def test_without_a_name_the_vae_that_reconstructs_best_encodes(
    make_client: Any, tmp_path: Path
) -> None:
    config = VaeConfig(latent_dim=3, channels=(4, 4), hidden=8)
    for name, metrics in (
        ("a-vae-v1", {}),
        ("b-vae-v1", {"reconstruction_mse": 0.02}),
        ("c-vae-v1", {"reconstruction_mse": 0.01}),
    ):
        network = build("vae", config).eval()
        save(tmp_path / f"{name}.safetensors", network, Description("vae", config, metrics=metrics))
    client = await make_client(models_dir=tmp_path, engine="torch")
    assert (await client.get("/models")).json()["default_encoder"] == "c-vae-v1"
    answer = await client.post("/decode", json={"z": [[0, 0, 0]]})
    assert answer.headers["x-model"] == "c-vae-v1"
