"""A finished run at work: loaded from its folder, asked about new examples, slid over pictures, written as ONNX."""
