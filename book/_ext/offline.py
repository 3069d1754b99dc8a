"""Keep pages from asking the network: Jupyter Book always loads thebe, whose button fetches a script from elsewhere."""


def silence(app, config) -> None:
    """Drop what sphinx_thebe would do and add."""
    app.registry.css_files = [entry for entry in app.registry.css_files if "thebe" not in entry[0]]
    for event, listeners in app.events.listeners.items():
        app.events.listeners[event] = [one for one in listeners if one.handler.__module__ != "sphinx_thebe"]


def setup(app) -> dict:
    app.connect("config-inited", silence, priority=0)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
