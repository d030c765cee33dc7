"""A `.keras` is hostile until proven otherwise: loading one can run code or read files, and each way is refused here.

1. `Lambda` layers and `__lambda__` objects carry marshalled Python code; Keras' safe mode was got around several times.
2. Every object is named by module and class: some of Keras' own load other files (`TFSMLayer`, vocabularies of
   `StringLookup`, `TorchModuleWrapper`), and functions of any of its modules could be called as if they were layers.
3. The weights are HDF5, whose links and virtual datasets name other files of this machine.

So only compute layers pass, each by name; Keras' safe mode stays on behind that. What a model was compiled with
(optimizer, losses) is no part of inference and is left out of the copy that is loaded.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from workers.errors import BadModelError, first_line

_CODE = "it could run code when loaded; benchfarm does not load it"
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
#: Keras writes members as they are; what expands further than this is made to fill a disk.
_MOST_EXPANSION = 100
#: deflate, shuffle, fletcher32: what HDF5 itself brings. Others are loaded as plug-ins.
_SAFE_FILTERS = {1, 2, 3}

_LAYERS = """
InputLayer Dense EinsumDense Embedding ReversibleEmbedding Identity Masking Activation
ELU LeakyReLU PReLU ReLU Softmax
Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose
Convolution1D Convolution2D Convolution3D Convolution1DTranspose Convolution2DTranspose Convolution3DTranspose
DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D
AveragePooling1D AveragePooling2D AveragePooling3D MaxPooling1D MaxPooling2D MaxPooling3D
AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D
GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
BatchNormalization GroupNormalization LayerNormalization RMSNormalization SpectralNormalization UnitNormalization
Add Average Concatenate Dot Maximum Minimum Multiply Subtract
AdditiveAttention Attention GroupQueryAttention MultiHeadAttention
Cropping1D Cropping2D Cropping3D Flatten Permute RepeatVector Reshape
UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
ActivityRegularization AlphaDropout Dropout GaussianDropout GaussianNoise
SpatialDropout1D SpatialDropout2D SpatialDropout3D
Bidirectional ConvLSTM1D ConvLSTM2D ConvLSTM3D GRU GRUCell LSTM LSTMCell RNN SimpleRNN SimpleRNNCell StackedRNNCells
TimeDistributed
CenterCrop Normalization Rescaling Resizing
RandomBrightness RandomContrast RandomCrop RandomFlip RandomRotation RandomTranslation RandomZoom
"""
_INITIALIZERS = """
Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer LecunNormal LecunUniform Ones
Orthogonal OrthogonalInitializer RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros
"""
_ACTIVATIONS = """
celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear log_sigmoid
log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid sparsemax
squareplus swish tanh tanh_shrink threshold
"""
_NUMPY_OPERATIONS = """
Absolute Add Amax Amin Any All Append Argmax Argmin Average BroadcastTo Ceil Clip Concatenate Cos Cosh Cross Cumprod
Cumsum Diag Diagonal Divide DivideNoNan Dot Einsum Equal Exp Exp2 ExpandDims Expm1 Flip Floor FloorDivide Full FullLike
GetItem Greater GreaterEqual Hstack Inner Isfinite Isinf Isnan Less LessEqual Log Log10 Log1p Log2 Logaddexp LogicalAnd
LogicalNot LogicalOr Matmul Max Maximum Mean Median Min Minimum Mod Moveaxis NanToNum Negative NotEqual OnesLike Outer
Pad Power Prod Ravel Reciprocal Repeat Reshape Roll Round Sign Sin Sinh Sort Split Sqrt Square Squeeze Stack Std
Subtract Sum Swapaxes Take TakeAlongAxis Tan Tanh Tensordot Tile Transpose Tril Triu TrueDivide Var Vstack Where
ZerosLike
"""
_NN_OPERATIONS = """
AdaptiveAveragePool AdaptiveMaxPool AveragePool BatchNorm Celu Conv ConvTranspose DepthToSpace DepthwiseConv
DotProductAttention Elu Gelu Glu HardShrink HardSigmoid HardSilu HardTanh LayerNorm LeakyRelu LogSigmoid LogSoftmax
MaxPool Moments Normalize OneHot RMSNorm Relu Relu6 Selu SeparableConv Sigmoid Silu SoftShrink Softmax Softplus
Softsign SpaceToDepth SparsePlus SparseSigmoid Sparsemax Squareplus TanhShrink Threshold
"""
#: Module, as Keras writes it, to the classes of it that compute and nothing else.
_SAFE_CLASSES: dict[str, frozenset[str]] = {
    "keras": frozenset(("Sequential", "DTypePolicy", "FloatDTypePolicy")),
    "keras.models": frozenset(("Sequential", "Model")),
    "keras.src.models.functional": frozenset(("Functional",)),
    "keras.src.models.sequential": frozenset(("Sequential",)),
    "keras.dtype_policies": frozenset(("DTypePolicy", "FloatDTypePolicy")),
    "keras.layers": frozenset(_LAYERS.split()),
    "keras.initializers": frozenset(_INITIALIZERS.split()),
    "keras.regularizers": frozenset(("L1", "L2", "L1L2", "OrthogonalRegularizer")),
    "keras.constraints": frozenset(("MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm")),
    "keras.random": frozenset(("SeedGenerator",)),
    "keras.src.random.seed_generator": frozenset(("SeedGenerator",)),
    "keras.src.ops.numpy": frozenset(_NUMPY_OPERATIONS.split()),
    "keras.src.ops.nn": frozenset(_NN_OPERATIONS.split()),
    "keras.src.ops.core": frozenset(("Cast", "SaturateCast", "Slice", "StopGradient", "Unstack", "ConvertToTensor")),
    "keras.src.ops.math": frozenset(("Erf", "Logsumexp", "Rsqrt", "TopK")),
    "keras.src.ops.image": frozenset(("Resize",)),
}
_SAFE_FUNCTIONS = frozenset(_ACTIVATIONS.split())
_FUNCTION_MODULES = frozenset(("keras.activations", "builtins"))
#: Keras' own notation for values. What is not listed (lambdas, type specifications) names code.
_VALUES = frozenset(("__keras_tensor__", "__tensor__", "__numpy__", "__ellipsis__", "__slice__"))


def copy_safely(path: Path, target: Path) -> None:
    """Check every member of a `.keras` before Keras loads it, and write the copy that may be loaded.

    Raises:
        BadModelError: the file is damaged, or holds something that could run code or read other files.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config, weights = _members(archive, path.name)
        refuse_config(config, path.name)
        inference = json.dumps(_without_training(config))
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, RecursionError, NotImplementedError) as error:
        raise BadModelError(f"{path.name} is not a readable .keras file: {first_line(error)}") from error
    _refuse_links(weights, path.name)
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(_CONFIG, inference)
        archive.writestr(_METADATA, "{}")
        archive.writestr(_WEIGHTS, weights)


def _members(archive: zipfile.ZipFile, name: str) -> tuple[dict[str, Any], bytes]:
    infos = archive.infolist()
    members = [info.filename for info in infos]
    if len({member.casefold() for member in members}) != len(members):
        raise BadModelError(f"{name} holds two members of one name: {_CODE}")
    for info in infos:
        if info.filename not in (_CONFIG, _METADATA, _WEIGHTS):
            raise BadModelError(f"{name} holds {info.filename!r}, which no compute layer needs: {_CODE}")
        if info.file_size > _MOST_EXPANSION * info.compress_size + 1024:
            raise BadModelError(f"{name} holds {info.filename}, which would unpack to {info.file_size} bytes")
    missing = {_CONFIG, _WEIGHTS} - set(members)
    if missing:
        raise BadModelError(f"{name} is not in the .keras format of Keras 3: it holds no {sorted(missing)[0]}")
    config = json.loads(archive.read(_CONFIG))
    if not isinstance(config, dict):
        raise BadModelError(f"{name} is not in the .keras format of Keras 3: its {_CONFIG} is no object")
    return config, archive.read(_WEIGHTS)


def refuse_config(config: Any, name: str) -> None:
    """Refuse a configuration that names anything but compute layers and what belongs to them.

    Args:
        config: what `config.json` holds.
        name: of the file, for the sentence.

    Raises:
        BadModelError: it names something else.
    """
    waiting = [config]
    while waiting:  # no recursion: how deep a file nests is its maker's choice
        value = waiting.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                _refuse_object(value, name)
            # What a model was compiled with is never loaded (`_without_training`).
            waiting += [item for key, item in value.items() if not (key == "compile_config" and "class_name" in value)]
        elif isinstance(value, list):
            waiting += value


def _refuse_object(value: dict[Any, Any], name: str) -> None:
    kind, module, registered = value["class_name"], value.get("module"), value.get("registered_name")
    if not isinstance(kind, str):
        raise BadModelError(f"{name} names an object by {kind!r}: {_CODE}")
    if kind in ("Lambda", "__lambda__"):
        raise BadModelError(f"{name} holds a Lambda layer, which is Python code: {_CODE}")
    if kind in _VALUES and module is None:
        return
    if kind == "function":
        kind = value.get("config")
        known = module in _FUNCTION_MODULES and isinstance(kind, str) and kind in _SAFE_FUNCTIONS
    else:
        known = isinstance(module, str) and kind in _SAFE_CLASSES.get(module, ())
    # Keras looks a registered name up before the module's: it must be the class itself.
    if not known or registered not in (None, kind):
        called = f"{module}.{kind}" + (f" (registered as {registered!r})" if registered not in (None, kind) else "")
        raise BadModelError(f"{name} holds {called!r}, which is none of Keras' compute layers: {_CODE}")


def _without_training(config: Any) -> Any:
    """The configuration without what models were compiled with."""
    if isinstance(config, dict):
        drop = "class_name" in config
        return {
            key: _without_training(value) for key, value in config.items() if not (drop and key == "compile_config")
        }
    return [_without_training(value) for value in config] if isinstance(config, list) else config


def _refuse_links(weights: bytes, name: str) -> None:
    """Refuse weights that lie, or pretend to lie, outside the file."""
    import h5py

    try:
        with h5py.File(io.BytesIO(weights), "r") as file:
            waiting, seen = [file], set()
            while waiting:
                group = waiting.pop()
                for key in group:
                    if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                        raise BadModelError(f"{name} holds weights by a link ({key!r}), which could name any file")
                    item = group[key]
                    address = h5py.h5o.get_info(item.id).addr
                    if isinstance(item, h5py.Group) and address not in seen:
                        seen.add(address)
                        waiting.append(item)
                    elif isinstance(item, h5py.Dataset):
                        _refuse_dataset(item, name)
    except BadModelError:
        raise
    except Exception as error:  # h5py raises what its C library met: OSError, KeyError, RuntimeError, ValueError
        raise BadModelError(f"{name} holds no readable weights: {first_line(error)}") from error


def _refuse_dataset(data: Any, name: str) -> None:
    layout = data.id.get_create_plist()
    if data.is_virtual or data.external:
        raise BadModelError(f"{name} holds weights that lie in another file ({data.name!r})")
    if not re.fullmatch("[biufcV]", data.dtype.kind):
        raise BadModelError(f"{name} holds weights that are no numbers ({data.name!r})")
    if any(layout.get_filter(index)[0] not in _SAFE_FILTERS for index in range(layout.get_nfilters())):
        raise BadModelError(f"{name} holds weights packed by a plug-in ({data.name!r})")
