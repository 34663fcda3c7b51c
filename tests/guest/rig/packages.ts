/**
 * Sysroots: Debian packages, with all they depend on, unpacked into a
 * directory of the cache. Their programs are run through the sysroot's own
 * loader and libraries, so they work on a system whose C library is older.
 *
 * @module
 */

import { join } from "@std/path";
import { lastLines } from "../../support/process.ts";
import { type AptPackage, AptRoot, megabytes } from "./apt.ts";
import { cached, type Progress, type RigOptions } from "./cache.ts";
import { RigError } from "./error.ts";

/** A set of packages. */
export interface SysrootSpec {
  /** A word for its directory and for progress lines. */
  readonly name: string;
  /** The Debian suites to take from; the first is preferred. */
  readonly suites: readonly string[];
  /** Packages, with their suite where it matters (`seabios/trixie`). */
  readonly packages: readonly string[];
  /**
   * Unpack only packages whose name matches, not all that apt resolves: the
   * source of a regular expression.
   */
  readonly only?: string;
}

/** Changes with the way packages are unpacked. */
const FORMAT = 1;

/** How long (ms) one package may take to unpack. */
const UNPACK_TIMEOUT = 120_000;

/** What no program needs. */
const EXCLUDED = ["doc", "man", "locale", "info", "lintian", "bug"];

/**
 * The directory with the unpacked packages, fetched now unless the cache has
 * it. `packages.txt` in it lists names and versions.
 *
 * @throws {RigError} `platform`, `download`, `locked`
 */
export function sysroot(
  spec: SysrootSpec,
  options: RigOptions = {},
): Promise<string> {
  const progress = options.progress ?? (() => {});
  return cached({
    name: spec.name,
    inputs: [FORMAT, spec.suites, spec.packages, spec.only ?? null],
    build: (into, cache) => fill(spec, into, cache, progress),
  }, options);
}

async function fill(
  spec: SysrootSpec,
  into: string,
  cache: string,
  progress: Progress,
): Promise<void> {
  const apt = await AptRoot.open(
    join(cache, `apt-${spec.suites.join("+")}`),
    spec.suites,
    progress,
  );
  const archives = join(into, ".archives");
  Deno.mkdirSync(archives);
  let packages: AptPackage[];
  try {
    packages = await fetch(apt, spec, archives, progress);
  } catch (error) {
    if (!(error instanceof RigError)) throw error;
    // Indexes of yesterday may name files that the mirror has replaced.
    await apt.update();
    packages = await fetch(apt, spec, archives, progress);
  }
  progress(`unpacking ${spec.name}`);
  for (const { name } of Deno.readDirSync(archives)) {
    if (name.endsWith(".deb")) await unpack(join(archives, name), into);
  }
  Deno.removeSync(archives, { recursive: true });
  const list = packages.map(({ name, version }) => `${name} ${version}\n`);
  Deno.writeTextFileSync(join(into, "packages.txt"), list.sort().join(""));
}

async function fetch(
  apt: AptRoot,
  spec: SysrootSpec,
  archives: string,
  progress: Progress,
): Promise<AptPackage[]> {
  const only = new RegExp(spec.only ?? "");
  const packages = (await apt.resolve(spec.packages))
    .filter(({ name }) => only.test(name));
  if (packages.length === 0) {
    throw new RigError(
      "download",
      `Cannot fetch ${spec.name}: apt resolves ${
        spec.packages.join(", ")
      } to no package${spec.only ? ` that matches ${spec.only}` : ""}`,
    );
  }
  const total = packages.reduce((sum, { size }) => sum + size, 0);
  progress(
    `downloading ${spec.name} … ${packages.length} packages, ` +
      megabytes(total),
  );
  await apt.download(packages, archives);
  return packages;
}

/**
 * Unpacks a package, as `dpkg` would over a merged /usr: a directory member
 * never replaces a symbolic link to a directory.
 */
async function unpack(archive: string, into: string): Promise<void> {
  const signal = AbortSignal.timeout(UNPACK_TIMEOUT);
  const dpkg = new Deno.Command("dpkg-deb", {
    args: ["--fsys-tarfile", archive],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    signal,
  }).spawn();
  const tar = new Deno.Command("tar", {
    args: [
      "-x",
      "-C",
      into,
      "--keep-directory-symlink",
      "--no-same-owner",
      ...EXCLUDED.map((name) => `--exclude=./usr/share/${name}`),
    ],
    stdin: "piped",
    stdout: "null",
    stderr: "piped",
    signal,
  }).spawn();
  const complaints = Promise.all([
    new Response(dpkg.stderr).text(),
    new Response(tar.stderr).text(),
  ]);
  let broken: unknown = null;
  await dpkg.stdout.pipeTo(tar.stdin).catch((error) => broken = error);
  const ends = await Promise.all([dpkg.status, tar.status]);
  const said = (await complaints).join("");
  if (broken === null && ends.every(({ code }) => code === 0)) return;
  throw new RigError(
    "format",
    `Cannot unpack "${archive}": ${lastLines(said) || broken}`,
  );
}

/** A program to start, with what its sysroot needs. */
export interface Invocation {
  /** The program to execute. */
  readonly command: string;
  /** The arguments before the caller's own. */
  readonly args: readonly string[];
  /** Variables to add to the environment. */
  readonly env: Record<string, string>;
}

/**
 * How to run a program of a sysroot, through the sysroot's own loader.
 *
 * @param root the sysroot
 * @param program a name in its usr/bin, bin, usr/sbin or sbin
 * @throws {RigError} `missing-file`
 */
export function inSysroot(root: string, program: string): Invocation {
  const path = findInSysroot(root, program);
  const loader = findFile(root, [
    "usr/lib64/ld-linux-x86-64.so.2",
    "lib64/ld-linux-x86-64.so.2",
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
  ]);
  return {
    command: loader,
    args: [
      "--library-path",
      libraryDirectories(root).join(":"),
      "--argv0",
      program,
      path,
    ],
    env: {},
  };
}

/**
 * The path of a program in a sysroot.
 *
 * @throws {RigError} `missing-file`
 */
export function findInSysroot(root: string, program: string): string {
  const directories = ["usr/bin", "bin", "usr/sbin", "sbin"];
  return findFile(root, directories.map((name) => join(name, program)));
}

/**
 * The first of `candidates` that exists in `root`, as an absolute path.
 *
 * @throws {RigError} `missing-file`
 */
export function findFile(root: string, candidates: readonly string[]): string {
  for (const candidate of candidates) {
    const path = join(root, candidate);
    try {
      if (Deno.statSync(path).isFile) return path;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  throw new RigError(
    "missing-file",
    `Cannot find ${candidates[0]} in "${root}": its packages lack it`,
  );
}

/** The directories of a sysroot that hold shared libraries. */
export function libraryDirectories(root: string): string[] {
  const triple = "x86_64-linux-gnu";
  return [`usr/lib/${triple}`, `lib/${triple}`, `usr/lib/${triple}/pulseaudio`]
    .map((name) => join(root, name));
}
