/**
 * What this program is.
 *
 * @module
 */

import config from "../deno.json" with { type: "json" };

/** Name of the program. */
export const PROGRAM = "vhostd";
/** Its version. */
export const VERSION: string = config.version;
