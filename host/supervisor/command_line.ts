/**
 * How a device process is called.
 *
 * @module
 */

import { dirname, fromFileUrl } from "@std/path";
import { readLink } from "../../sys/proc.ts";

/**
 * The program that runs us: also after its file was replaced or removed, and
 * without the permission that `Deno.execPath` wants.
 */
export function runtimePath(): string {
  const link = "/proc/self/exe";
  const path = readLink(link);
  return path.endsWith(" (deleted)") ? link : path;
}

const ENTRY = new URL("../device_process/main.ts", import.meta.url);
const CONFIG = new URL("../../deno.json", import.meta.url);

/**
 * The data path allocates nothing, so a heap that grows is a leak, and is to end
 * before the host's memory does: the limit is one for each thread, in MiB.
 */
const HEAP_LIMIT = "--max-old-space-size=256";
/** Make compiled code fast, see docs/decisions/0011-compiled-code.md. */
const FAST_CODE = ["--no-additive-safe-int-feedback"];
/** Versions of V8 that are known to have it: others may refuse to start. */
const FAST_CODE_V8 = /^15\.0\./;

/**
 * Options of V8 for a device process.
 *
 * @param version of V8
 */
export function v8Options(version: string): string[] {
  return FAST_CODE_V8.test(version) ? [HEAP_LIMIT, ...FAST_CODE] : [HEAP_LIMIT];
}

/**
 * The arguments of a device process, from `argv[0]` on. It may do less than we
 * may: use FFI, and read the folders that code is loaded from.
 *
 * @param names of the devices, for whoever looks at the list of processes
 * @param modules URLs of the device modules
 */
export function commandLine(
  names: readonly string[],
  modules: readonly string[],
): string[] {
  return [
    "deno",
    "run",
    "--quiet",
    "--no-prompt",
    ...(CONFIG.protocol === "file:"
      ? [`--config=${fromFileUrl(CONFIG)}`]
      : ["--no-config"]),
    "--allow-ffi",
    ...readPermission(modules),
    `--v8-flags=${v8Options(Deno.version.v8).join(",")}`,
    ENTRY.protocol === "file:" ? fromFileUrl(ENTRY) : ENTRY.href,
    ...names,
  ];
}

function readPermission(modules: readonly string[]): string[] {
  const [root, ...others] = [CONFIG.href, ...modules]
    .filter((url) => url.startsWith("file:"))
    .map((url) => dirname(fromFileUrl(url)));
  const outside = others.filter((folder) => !folder.startsWith(`${root}/`));
  const folders = new Set(root === undefined ? [] : [root, ...outside]);
  if (folders.size === 0) return [];
  // A comma separates folders and cannot be quoted.
  const quotable = [...folders].every((folder) => !folder.includes(","));
  return quotable
    ? [`--allow-read=${[...folders].join(",")}`]
    : ["--allow-read"];
}
