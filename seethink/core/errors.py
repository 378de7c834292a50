"""The one exception a user is meant to read."""

import re


class UserError(Exception):
    """A problem the user can fix. The command line prints it as one line and exits with `code`.

    what    what is wrong, with the value that is wrong
    where   file, row or config key it was found in
    remedy  what to do about it
    code    process exit code (2 bad input, 3 endpoint unusable, 4 budget spent)
    """

    def __init__(self, what: str, *, where: object = "", remedy: str = "", code: int = 2):
        super().__init__(what)
        self.what, self.where, self.remedy, self.code = what, " ".join(str(where).splitlines()), remedy, code

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        line = re.sub(
            r"(?<=:/)(/?)[^\s/@]+:[^\s/@]*@", r"\1***@", line
        )  # an address with a password, where a file was due
        return f"{line}. {self.remedy}" if self.remedy else line
