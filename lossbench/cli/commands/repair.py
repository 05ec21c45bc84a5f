"""`lossbench repair results`: check every file of records, and set aside what is damaged."""

from collections.abc import Sequence
from pathlib import Path

from lossbench import records
from lossbench.cli.output import OutputMode, print_document, print_message
from lossbench.errors import InvalidValue

USAGE = "lossbench repair FOLDER ..."


def run_repair(arguments: Sequence[str], mode: OutputMode) -> int:
    """Read all records at or below some folders, and rename what is damaged. Return 1 if anything was, else 0."""
    if not arguments or any(argument.startswith("-") for argument in arguments):
        raise InvalidValue(f"Write {USAGE}.")
    for root in map(Path, arguments):
        if not root.is_dir():
            raise InvalidValue(f"There is no folder {str(root)!r}. Give the folders that hold records.")
    folders = [folder for root in arguments for folder in records.find_folders(Path(root))]
    damaged: dict[str, list[str]] = {}
    for folder in dict.fromkeys(folders):
        if lines := records.set_aside_damage(folder):
            damaged[str(folder)] = lines
    if mode is OutputMode.JSON:
        print_document({"folders": len(folders), "damaged": damaged})
        return int(bool(damaged))
    if mode is not OutputMode.QUIET:
        for lines in damaged.values():
            for line in lines:
                print_message(line)
        print(f"{len(folders) - len(damaged)} of {len(folders)} folders of records are whole.")
        if damaged:
            print(
                f"Damaged files are renamed, and end in {records.DAMAGED}. Run the command that made them once more: "
                "it trains what is missing."
            )
    return int(bool(damaged))
