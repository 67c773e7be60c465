_matmul = _epitaxy_kernel(
    "matmul_tiles", 2, [("float32", (1024, 1024))], grid=(16, 16), block=(256,)
)


class ModelNew(Model):
    @_epitaxy_guarded(Model, inputs=(("float32", (1024, 1024)), ("float32", (1024, 1024))))
    def forward(a, b):
        (c,) = _matmul(a, b)
        return c
