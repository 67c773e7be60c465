_softmax = _epitaxy_kernel(
    "softmax_rows", 1, [("float32", (2048, 8192))], grid=(2048,), block=(256,)
)


class ModelNew(Model):
    @_epitaxy_guarded(Model, inputs=(("float32", (2048, 8192)),))
    def forward(x):
        (y,) = _softmax(x)
        return y
