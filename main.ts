/**
 * The command `vhostd`; see `main.ts --help`.
 *
 * @module
 */

import { main } from "./host/cli/main.ts";

if (import.meta.main) Deno.exit(await main(Deno.args));
