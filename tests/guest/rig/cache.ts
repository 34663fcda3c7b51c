/**
 * The cache of everything that is fetched or built once: directories, each
 * named after what it is made from.
 *
 * Theory of operation: an entry is `<name>-<key>`, the key a digest of all
 * that its content depends on, so an entry never changes and needs no check
 * beyond its existence. It is built in a directory of its own, named
 * `building-…`, and renamed to its name when it is complete: an interrupted
 * run leaves nothing that looks complete. One lock (flock, so the kernel
 * releases it when its holder dies) serialises builders; whoever had to wait
 * finds the entry made. Under the lock, left-over `building-…` directories
 * belong to runs that have died and are removed.
 *
 * @module
 */

import { join, resolve } from "@std/path";
import { waitUntil } from "../../support/deadline.ts";
import { RigError } from "./error.ts";

/** Called with a line for people to read about what takes time. */
export type Progress = (line: string) => void;

/** What all parts of the rig take. */
export interface RigOptions {
  /** The cache directory; {@linkcode cacheDirectory} when absent. */
  cache?: string;
  /** Called with lines about downloads and builds. */
  progress?: Progress;
}

/** How long (ms) one run waits for another's downloads. */
const LOCK_TIMEOUT = 20 * 60_000;

/**
 * The cache directory: `VHOSTD_CACHE`, or `~/.cache/vhostd`.
 *
 * @param variable reads the environment
 * @throws {RigError} `platform` when neither it nor `HOME` is set
 */
export function cacheDirectory(
  variable: (name: string) => string | undefined = Deno.env.get,
): string {
  const named = variable("VHOSTD_CACHE");
  if (named) return resolve(named);
  const home = variable("HOME");
  if (home) return join(home, ".cache", "vhostd");
  throw new RigError(
    "platform",
    "Cannot choose a cache directory: neither VHOSTD_CACHE nor HOME is set",
  );
}

/** Twelve hexadecimal digits of the SHA-256 of `inputs`. */
export async function contentKey(inputs: readonly unknown[]): Promise<string> {
  const text = new TextEncoder().encode(JSON.stringify(inputs));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", text));
  return digest.toHex().slice(0, 12);
}

/** What a cache entry is and how it is made. */
export interface CacheEntry {
  /** The first part of its name. */
  readonly name: string;
  /** All that its content depends on (JSON values). */
  readonly inputs: readonly unknown[];
  /**
   * Fills the empty directory `into`. `cache` is the cache directory, in
   * which the builder may keep what helps the next build. It must not ask for
   * another entry: it holds the lock.
   */
  build(into: string, cache: string): Promise<void>;
}

/**
 * The directory of a cache entry, built now unless it exists.
 *
 * @throws {RigError} `locked` when another run keeps the cache for 20 minutes,
 * and what `build` throws
 */
export async function cached(
  entry: CacheEntry,
  options: RigOptions = {},
): Promise<string> {
  const cache = resolve(options.cache ?? cacheDirectory());
  const key = await contentKey(entry.inputs);
  const path = join(cache, `${entry.name}-${key}`);
  if (isDirectory(path)) return path;
  Deno.mkdirSync(cache, { recursive: true });
  using lock = Deno.openSync(join(cache, "lock"), {
    create: true,
    write: true,
  });
  await takeLock(lock, cache, options.progress);
  if (isDirectory(path)) return path;
  for (const left of Deno.readDirSync(cache)) {
    if (!left.name.startsWith("building-")) continue;
    Deno.removeSync(join(cache, left.name), { recursive: true });
  }
  const building = join(cache, `building-${entry.name}-${key}`);
  Deno.mkdirSync(building);
  await entry.build(building, cache);
  Deno.renameSync(building, path);
  return path;
}

async function takeLock(
  lock: Deno.FsFile,
  cache: string,
  progress: Progress | undefined,
): Promise<void> {
  if (lock.tryLockSync(true)) return;
  progress?.(`waiting for another run that fills "${cache}"`);
  try {
    await waitUntil(() => lock.tryLockSync(true), {
      what: "the lock",
      timeout: LOCK_TIMEOUT,
      interval: 100,
    });
  } catch {
    throw new RigError(
      "locked",
      `Cannot fill "${cache}": another run has held its lock for 20 minutes`,
    );
  }
}

function isDirectory(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
