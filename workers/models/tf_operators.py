"""TensorFlow's operators that compute, and nothing else: what a SavedModel may hold.

By name, for nothing in an operator's definition tells: `ReadFile`, `Abort`, `ImmutableConst` and `DebugIdentity` count
as pure. `Print`, lookup tables, data sets, string and image decoding are left out: no model of arrays needs them.
"""

from __future__ import annotations

#: Of the saver: write a checkpoint, read one.
SAVE = frozenset(("SaveV2", "MergeV2Checkpoints", "ShardedFilename"))
RESTORE = frozenset(("RestoreV2",))

_STRUCTURE = """
NoOp Const Placeholder PlaceholderWithDefault Identity IdentityN StopGradient PreventGradient Snapshot EnsureShape
Shape ShapeN Size Rank Cast Bitcast OnesLike ZerosLike Fill Range LinSpace BroadcastTo BroadcastArgs Assert
PartitionedCall StatefulPartitionedCall If StatelessIf While StatelessWhile Case StatelessCase For
Enter Exit Merge Switch NextIteration LoopCond ControlTrigger ToBool
VarHandleOp VarIsInitializedOp ReadVariableOp AssignVariableOp AssignAddVariableOp AssignSubVariableOp VariableShape
ResourceGather ResourceGatherNd DisableCopyOnRead StringJoin StaticRegexFullMatch
EmptyTensorList TensorListReserve TensorListFromTensor TensorListStack TensorListGetItem TensorListSetItem
TensorListLength TensorListElementShape TensorListPushBack TensorListPopBack TensorListConcatV2 TensorListGather
TensorListResize TensorListSplit TensorListScatterV2
"""
_ARITHMETIC = """
Abs Acos Acosh Add AddN AddV2 All Angle Any ApproximateEqual ArgMax ArgMin Asin Asinh Atan Atan2 Atanh Betainc
BitwiseAnd BitwiseOr BitwiseXor Bucketize Ceil ClipByValue Complex ComplexAbs Conj Cos Cosh Cross Cumprod Cumsum
CumulativeLogsumexp Digamma Div DivNoNan Equal Erf Erfc Erfinv EuclideanNorm Exp Expm1 Floor FloorDiv FloorMod Greater
GreaterEqual Igamma Igammac Imag Inv Invert IsFinite IsInf IsNan LeftShift Less LessEqual Lgamma Log Log1p LogicalAnd
LogicalNot LogicalOr Max Maximum Mean Min Minimum Mod Mul MulNoNan Ndtri Neg NextAfter NotEqual Polygamma
PopulationCount Pow Prod Real RealDiv Reciprocal RightShift Rint Round Rsqrt Select SelectV2 Sigmoid Sign Sin Sinh Sqrt
Square SquaredDifference Sub Sum Tan Tanh TruncateDiv TruncateMod Xdivy Xlog1py Xlogy Zeta
BesselI0 BesselI0e BesselI1 BesselI1e
"""
_MATRICES = """
BatchMatMul BatchMatMulV2 BatchMatMulV3 Cholesky Einsum LogMatrixDeterminant MatMul MatrixBandPart MatrixDeterminant
MatrixDiag MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixInverse MatrixSetDiag
MatrixSetDiagV2 MatrixSetDiagV3 MatrixSolve MatrixTriangularSolve Qr SelfAdjointEigV2 Svd Diag DiagPart
FFT FFT2D FFT3D IFFT IFFT2D IFFT3D RFFT RFFT2D RFFT3D IRFFT IRFFT2D IRFFT3D
"""
_SHAPES = """
BatchToSpace BatchToSpaceND Bincount Concat ConcatOffset ConcatV2 DenseBincount DepthToSpace DynamicPartition
DynamicStitch ExpandDims ExtractImagePatches ExtractVolumePatches Gather GatherNd GatherV2 HistogramFixedWidth
InTopK InTopKV2 InvertPermutation ListDiff LowerBound MirrorPad OneHot Pack Pad PadV2 ParallelConcat
ParallelDynamicStitch Reshape Reverse ReverseSequence ReverseV2 Roll ScatterNd ScatterNdNonAliasingAdd SegmentMax
SegmentMean SegmentMin SegmentProd SegmentSum Slice SpaceToBatch SpaceToBatchND SpaceToDepth Split SplitV Squeeze
StridedSlice TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate
TensorStridedSliceUpdate Tile TopK TopKV2 Transpose ConjugateTranspose Unique UniqueV2 UniqueWithCounts Unpack
UnravelIndex UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum UpperBound Where
"""
_LAYERS = """
AvgPool AvgPool3D BatchNormWithGlobalNormalization BiasAdd BiasAddV1 Conv Conv2D Conv2DBackpropInput
Conv2DBackpropInputV2 Conv3D Conv3DBackpropInputV2 DataFormatDimMap DataFormatVecPermute DepthwiseConv2dNative
Dilation2D Elu FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel FractionalAvgPool
FractionalMaxPool FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 FusedPadConv2D FusedResizeAndPadConv2D L2Loss LRN
LeakyRelu LogSoftmax MaxPool MaxPool3D MaxPoolV2 MaxPoolWithArgmax QuantizeAndDequantize QuantizeAndDequantizeV2
QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 QuantizeV2 Dequantize Relu Relu6 Selu Softmax Softplus Softsign
AdjustContrastv2 AdjustHue AdjustSaturation CombinedNonMaxSuppression CropAndResize HSVToRGB ImageProjectiveTransformV2
ImageProjectiveTransformV3 NonMaxSuppression NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4
NonMaxSuppressionV5 RGBToHSV ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor ScaleAndTranslate
"""
_RANDOM = """
Multinomial ParameterizedTruncatedNormal RandomGamma RandomPoissonV2 RandomShuffle RandomStandardNormal RandomUniform
RandomUniformInt RngReadAndSkip RngSkip StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform
StatefulUniformFullInt StatefulUniformInt StatelessMultinomial StatelessParameterizedTruncatedNormal
StatelessRandomGammaV2 StatelessRandomGammaV3 StatelessRandomGetAlg StatelessRandomGetKeyCounter
StatelessRandomGetKeyCounterAlg StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomPoisson
StatelessRandomUniform StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2 StatelessRandomUniformInt
StatelessRandomUniformIntV2 StatelessRandomUniformV2 StatelessShuffle StatelessTruncatedNormal
StatelessTruncatedNormalV2 TruncatedNormal
"""
COMPUTE = frozenset(" ".join((_STRUCTURE, _ARITHMETIC, _MATRICES, _SHAPES, _LAYERS, _RANDOM)).split())
