"""The page's shell in Gradio: one empty element for each live view. Our own JS fills them; Python never writes to them."""

import gradio as gr

VIEWS = ("top", "drawer", "feed", "composer", "work", "switch")
# A script of `head` may run before or after Gradio has made its elements: each announces itself, and the script looks too.
MOUNTED = "document.dispatchEvent(new Event('ml-intern:mounted'))"


def page() -> gr.Blocks:
    """Gradio's part of the page."""
    with gr.Blocks(title="ML Intern", analytics_enabled=False, fill_width=True, fill_height=True) as blocks:
        for name in VIEWS:
            gr.HTML(
                elem_id=f"ml-{name}",
                html_template=f'<div class="ml-view" data-view="{name}"></div>',
                js_on_load=MOUNTED,
                apply_default_css=False,
            )
    return blocks


def head(assets: str) -> str:
    """What goes into the page's head: our styles and our one module, from under `assets`."""
    styles = ("vendor/uplot/uPlot.min.css", "base.css", "chrome.css", "feed.css", "work.css", "files.css", "replay.css")
    links = "".join(f'<link rel="stylesheet" href="{assets}/{name}">' for name in styles)
    colours = '<meta name="color-scheme" content="light dark">'
    return f'{colours}{links}<script type="module" src="{assets}/main.js"></script>'
