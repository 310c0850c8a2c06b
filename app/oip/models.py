"""The models of the Open Inference Protocol: one for each operation of a checkpoint.

``NAME`` generates; ``NAME.encode`` and ``NAME.decode`` are an autoencoder's other two. The protocol
ties tensors to a model, so only one model per operation can name its tensors exactly.
"""

import difflib
from typing import Annotated, NamedTuple

from fastapi import Path, Request

from app import seeds
from app.api.bodies.latents import MAX_LATENT
from app.api.common import service_of
from app.core.service import Service
from app.engines.rows import has_posterior
from app.engines.store import StoredModel
from app.errors import UnknownModelError, shown
from app.oip.signature import BYTES, Input, Output, Signature
from app.oip.tensors import VERSION
from app.rendering.oip_schemas import ModelMetadata
from training.networks.configs import Operation

PLATFORMS = {"onnx": "onnx_onnxv1", "torch": "pytorch_safetensors"}  # by engine


class ProtocolModel(NamedTuple):
    """One operation of a checkpoint, as the protocol serves it."""

    name: str
    model: StoredModel
    operation: Operation

    @property
    def signature(self) -> Signature:
        """The tensors it takes and returns."""
        network = self.model.network
        channels, *sides = network.image_shape
        pixels = (*sides, channels) if channels > 1 else tuple(sides)
        latent = (network.latent_dim,)
        images = (Output("image", "UINT8", pixels), Output("png", BYTES, (), by_default=False))
        classes = network.num_classes
        needed = self.operation != "generate"  # whose seed draws one
        label = Input("label", ("INT64",), (), 0, classes - 1, required=needed)
        labels = (label,) if classes else ()
        if self.operation == "encode":
            image = Input("image", ("UINT8",), pixels, 0, 255)
            posterior = (Output("mu", "FP32", latent), Output("logvar", "FP32", latent))
            return Signature((image, *labels), posterior[: 1 + has_posterior(network)])
        if self.operation == "decode":
            z = Input("z", ("FP32",), latent, -MAX_LATENT, MAX_LATENT)
            return Signature((z, *labels), images)
        seed = Input("seed", ("INT64", "UINT64"), (), 0, seeds.MAX_SEED, required=False)
        images_and_seed = (*images, Output("seed", "INT64", ()))
        if not classes:
            return Signature((seed,), images_and_seed)
        return Signature((seed, label), (*images_and_seed, Output("label", "INT64", ())))

    def metadata(self, service: Service) -> ModelMetadata:
        """The protocol's model metadata."""
        model, signature = self.model, self.signature
        optional = ", ".join(spec.name for spec in signature.inputs if not spec.required)
        return ModelMetadata.model_validate(
            {
                "name": self.name,
                "versions": [VERSION],
                "platform": PLATFORMS[model.backend.engine],
                "inputs": [spec.metadata() for spec in signature.inputs],
                "outputs": [spec.metadata() for spec in signature.outputs],
                "properties": {
                    "operation": self.operation,
                    "digest": model.description.digest,
                    "reproducibility": service.engine.reproducibility[model.name],
                    "optional_inputs": optional,
                    "latent": "; ".join(
                        f"{part.name} {'x'.join(map(str, part.shape))} {part.distribution}"
                        for part in model.latent
                    ),
                },
            }
        )


def protocol_models(service: Service) -> dict[str, ProtocolModel]:
    """Every model of the protocol by name, sorted.

    A checkpoint whose name equals another's operation (``NAME.encode``) takes precedence.
    """
    models = service.models.values()
    operations = [
        ProtocolModel(f"{model.name}.{operation}", model, operation)
        for model in models
        for operation in model.operations
        if operation != "generate"
    ]
    checkpoints = [ProtocolModel(model.name, model, "generate") for model in models]
    by_name = {one.name: one for one in (*operations, *checkpoints)}
    return {name: by_name[name] for name in sorted(by_name)}


def model_of_path(request: Request, model: Annotated[str, Path()]) -> ProtocolModel:
    """The model named in the path.

    Raises:
        UnknownModelError
    """
    service = service_of(request)
    models = protocol_models(service)
    if model not in models:  # an alias, alone or with an operation
        alias = max(
            (a for a in service.selector.aliases if f"{model}.".startswith(f"{a}.")), default=""
        )
        model = service.selector.aliases.get(alias, "") + model[len(alias) :]
    if model in models:
        return models[model]
    near = difflib.get_close_matches(model[:64], models, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UnknownModelError(f"unknown model {shown(model)}; available: {', '.join(models)}{hint}")


def model_and_version_of_path(
    request: Request, model: Annotated[str, Path()], version: Annotated[str, Path()]
) -> ProtocolModel:
    """The model and version named in the path.

    Raises:
        UnknownModelError
    """
    found = model_of_path(request, model)
    if version != VERSION:
        raise UnknownModelError(
            f"unknown version {shown(version)} of {found.name}; its only version is {VERSION}"
        )
    return found
