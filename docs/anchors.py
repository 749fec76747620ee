"""The anchor of a heading, as JupyterLab makes it: then one link works in a notebook and on the site."""


def of_heading(title):
    return title.replace(' ', '-')
