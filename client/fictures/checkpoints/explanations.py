"""What keeps a model from coming from the Hugging Face hub, one line each, for the launcher and `fictures models pull`.

`{setting}` is the variable that names the model `{model}`.
"""

GATED = (
    "{setting}={model}: a gated model: accept its licence at https://huggingface.co/{model}, then set HF_TOKEN to a "
    "token of that account"
)
NO_ACCESS = (
    "{setting}={model}: a gated model, and the account of HF_TOKEN has no access to it: accept its licence at "
    "https://huggingface.co/{model} with that account, or wait until that is granted; a fine-grained token also needs "
    "the permission to read public gated repositories"
)
WRONG_TOKEN = (
    "HF_TOKEN: the Hugging Face hub does not know this token: make one at https://huggingface.co/settings/tokens"
)
NOT_FOUND = (
    "{setting}={model}: no such model on the Hugging Face hub, or a private one: check the name, and set HF_TOKEN if "
    "it is private"
)
UNREACHABLE = (
    "{setting}={model}: not all on this machine, and the Hugging Face hub cannot be reached: check the network and "
    "HF_HUB_OFFLINE, or set {setting} to a folder"
)
NOT_CACHED = (
    "{setting}={model}: not in the Hugging Face cache, or not whole: run fictures models pull where there is a "
    "network, without HF_HUB_OFFLINE"
)
