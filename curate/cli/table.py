"""Tables for the terminal, made from the documents of the JSON contract: what a person sees is what a script gets."""

from rich import box
from rich.table import Table

SIZE_STYLES = {"small": "red", "medium": "yellow", "large": "green"}


def new_table(title: str, *columns: str, left: int = 1) -> Table:
    """A table in the house style; the first `left` columns are text, the others numbers."""
    # as wide as its title, which would wrap else
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, min_width=len(title)
    )
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place < left else "right", no_wrap=True)
    return table


def colour_sizes(table: Table) -> None:
    """Give columns that are headed by a size its colour."""
    for column in table.columns:
        column.style = SIZE_STYLES.get(str(column.header), "")
