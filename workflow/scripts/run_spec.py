"""Write the complete spec of one run, checked."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1]))

from core.spec import RunSpec

output = Path(snakemake.output.spec)
RunSpec.checked(json.loads(snakemake.params.spec), output).save(output)
