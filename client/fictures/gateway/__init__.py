"""The gateway: the Fictures API and the OpenAI API over HTTP, translated to requests of Triton.

It holds no model and no state but keys and counters, so any number can run side by side. `app` puts it together,
`*_routes` are its endpoints, `fictures.translation` is what they do; `server` runs it.
"""
