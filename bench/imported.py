"""Walks every imported model of a running service through all operations that it has.

``python -m bench.imported --url http://127.0.0.1:8000 [NAME …]`` prints a line of a table for each:
what it does, its grade, milliseconds an image, and whether a seed gave the same bytes alone and
among 64 others. It fails at the first answer that is not what it should be. The models are made by
``genserve import`` beforehand; nothing is fetched.
"""

import argparse
import base64
import io
import zipfile
from typing import Any

import httpx
import numpy as np


def walk(client: httpx.Client, card: dict[str, Any], among: int) -> str:
    """The model's line of the table.

    Raises:
        AssertionError, httpx.HTTPStatusError: an operation fails.
    """
    name, does = card["name"], ["generate"]
    seed = 42

    def answer(method: str, path: str, **options: Any) -> httpx.Response:
        response = client.request(method, path, timeout=120, **options)
        assert response.status_code == 200, f"{name} {path}: {response.text[:300]}"
        return response

    def array(path: str, **options: Any) -> Any:
        method = "POST" if options else "GET"
        content = answer(method, f"{path}&format=npy", **options).content
        return np.load(io.BytesIO(content))

    alone = answer("GET", f"/generate?model={name}&seed={seed}")
    together = array(f"/generate?model={name}&seed={seed - 20}&n={among}")
    (single,) = array(f"/generate?model={name}&seed={seed}")
    same = bool(np.array_equal(single, together[20]))
    again = answer("GET", alone.headers["content-location"])
    assert again.content == alone.content, "the permalink gives other bytes"
    verdict = answer(
        "POST", "/verify", content=alone.content, headers={"content-type": "image/png"}
    )
    assert verdict.json()["verdict"] == "same", verdict.text
    answer("GET", f"/interpolate?model={name}&seeds=3,17&steps=4")
    answer("GET", f"/traverse?model={name}&seed=3&axes=0&steps=3")
    data = answer("GET", f"/dataset?model={name}&n=6&seed=3")
    with zipfile.ZipFile(io.BytesIO(data.content)) as archive:
        assert sum(file.endswith(".png") for file in archive.namelist()) == 6
    inputs = [{"name": "seed", "shape": [2], "datatype": "INT64", "data": [3, 4]}]
    infer = answer("POST", f"/v2/models/{name}/infer", json={"inputs": inputs})
    assert infer.json()["outputs"]
    does += ["verify", "interpolate", "traverse", "dataset", "OIP"]
    of_class = f"{name}&label={card['labels'][0]}" if card["labels"] else name
    if "decode" in card["operations"]:
        z = [[0.1] * card["latent_dim"]]
        assert array(f"/decode?model={of_class}", json={"z": z}).shape[0] == 1
        does.append("decode")
    if "encode" in card["operations"]:
        picture = base64.b64encode(alone.content).decode()
        body = {"images": [picture]}
        (item,) = answer("POST", f"/encode?model={of_class}", json=body).json()["items"]
        assert len(item["mu"]) == card["latent_dim"]
        assert array(f"/reconstruct?model={of_class}", json=body).shape[0] == 1
        does += ["encode", "reconstruct"]
    passes = client.get("/status").json()["models"][name]["operations"]["generate"]["passes"]
    best = min(one["milliseconds"] / one["images"] for one in passes)
    latent = ", ".join("x".join(map(str, part["shape"])) for part in card["latent"])
    shape = " x ".join(map(str, card["image_shape"]))
    return (
        f"| {name} | {latent} | {shape} | {', '.join(does)} | {card['reproducibility']} | "
        f"{'yes' if same else 'no'} | {best:.3g} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all imported models")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    arguments = parser.parse_args()
    with httpx.Client(base_url=arguments.url) as client:
        listed = client.get("/models", headers={"accept": "application/json"}).json()
        chosen = [
            card
            for card in listed["models"]
            if card["name"] in arguments.names or (not arguments.names and card["kind"] == "graph")
        ]
        print("| Model | Latent | Image | Does | Grade | Same among 64 | ms an image |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for card in chosen:
            print(walk(client, card, min(64, listed["max_n"])), flush=True)


if __name__ == "__main__":
    main()
