"""What the launcher says while the server starts."""

from launcher.readiness import phase


def test_the_phases_of_both_models_are_told() -> None:
    log = "TRITONBACKEND_ModelInstanceInitialize: sdxl_stream_0_0 (MODEL device 0)\n"
    assert phase("") == "starting Triton"
    assert phase(log) == "loading the image model"
    assert phase(log + "Starting to load model x\n") == "loading the text model, loading the image model"
    log += "Warming up model\nsuccessfully loaded 'sdxl_stream'\n"
    assert phase(log) == "compiling and warming up the text model, image model ready"
