"""Write the complete spec of one run, checked."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1]))

from core import schema
from core.spec import RunSpec, check_scheme

output = Path(snakemake.output.spec)
content = json.loads(snakemake.params.spec)
schema.check(content, "run", [])
check_scheme(content, output)
RunSpec(content).save(output)
