/**
 * Debian packages through the system's own apt, without root and without
 * touching the system's apt: a private state directory, an empty package
 * status and a source list of our own.
 *
 * Theory of operation: apt reads the system's configuration first (so a proxy
 * or credentials that the system needs for its mirror keep working) and then
 * ours (`-c`), which clears what must not leak in (hooks, preferences,
 * default release, further index targets) and points every directory to the
 * private root. The mirror is the one that the system's own apt uses; the
 * signature of each suite is checked against the keyring of the Debian
 * archive, which alone is trusted, whatever the system trusts. Against an
 * empty package status apt's resolver names a package with all it depends
 * on.
 *
 * @module
 */

import { join } from "@std/path";
import { DeadlineError } from "../../support/deadline.ts";
import {
  ChildProcess,
  lastLines,
  ProcessError,
  runCommand,
} from "../../support/process.ts";
import type { Progress } from "./cache.ts";
import { RigError } from "./error.ts";

/** One package that apt has resolved. */
export interface AptPackage {
  /** Its name. */
  readonly name: string;
  /** Its version, with the epoch. */
  readonly version: string;
  /** The size of its file in bytes. */
  readonly size: number;
}

/** How long (ms) apt may take for the indexes or for one download. */
const APT_TIMEOUT = 15 * 60_000;

/** How long (ms) indexes are taken as current. */
const INDEX_AGE = 24 * 3_600_000;

/** Where Debian, and distributions that package it, keep the keyring. */
const KEYRINGS = [
  "/usr/share/keyrings/debian-archive-keyring.gpg",
  "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/** Programs that fetch and unpack packages. */
const TOOLS = ["apt-get", "apt-config", "dpkg-deb", "tar"];

/**
 * Checks that this system can fetch and unpack Debian packages.
 *
 * @throws {RigError} `platform`, naming all that is missing
 */
export function requireApt(): void {
  const missing = TOOLS.filter((tool) => findProgram(tool) === null);
  const keyring = KEYRINGS.some((path) => exists(path));
  if (missing.length === 0 && keyring && Deno.build.arch === "x86_64") return;
  const lacks = [
    ...missing,
    ...keyring ? [] : ["the keyring of the Debian archive"],
    ...Deno.build.arch === "x86_64" ? [] : ["an x86-64 processor"],
  ];
  throw new RigError(
    "platform",
    "Cannot fetch the guests' packages: this system has no " +
      `${lacks.join(", no ")}. Use Debian 12 or later on x86-64, or install ` +
      "apt (2.2 or later), dpkg (1.20 or later), GNU tar and " +
      "debian-archive-keyring (2023.3 or later) and name a mirror of the " +
      "Debian archive in VHOSTD_DEBIAN_MIRROR",
  );
}

/** The path of a program that is in `path`, like PATH, or `null`. */
export function findProgram(
  name: string,
  path: string = Deno.env.get("PATH") ?? "",
): string | null {
  for (const directory of path.split(":")) {
    const file = join(directory || ".", name);
    try {
      const { isFile, mode } = Deno.statSync(file);
      if (isFile && ((mode ?? 0) & 0o111) !== 0) return file;
    } catch {
      // Not here, or not for us to see.
    }
  }
  return null;
}

/** A private apt for a set of suites. */
export class AptRoot {
  readonly #directory: string;
  readonly #configuration: string;
  readonly #progress: Progress;

  private constructor(directory: string, progress: Progress) {
    this.#directory = directory;
    this.#configuration = join(directory, "apt.conf");
    this.#progress = progress;
  }

  /**
   * Opens (or makes) the private apt in `directory`, with current indexes.
   *
   * @param suites Debian suites, `trixie` say; the first is the preferred one
   * @throws {RigError} `platform` or `download`
   */
  static async open(
    directory: string,
    suites: readonly string[],
    progress: Progress,
  ): Promise<AptRoot> {
    requireApt();
    const root = new AptRoot(directory, progress);
    for (const path of ["state/lists/partial", "cache/archives/partial"]) {
      Deno.mkdirSync(join(directory, path), { recursive: true });
    }
    const mirror = await findMirror();
    const keyring = KEYRINGS.find((path) => exists(path));
    // "targets": no other indexes than the packages', whatever is configured.
    const sources = suites.map((suite) =>
      `deb [arch=amd64 signed-by=${keyring} targets=Packages] ` +
      `${mirror} ${suite} main\n`
    ).join("");
    const changed = readIfExists(join(directory, "sources.list")) !== sources;
    Deno.writeTextFileSync(join(directory, "sources.list"), sources);
    Deno.writeTextFileSync(join(directory, "state/status"), "");
    Deno.writeTextFileSync(root.#configuration, configuration(directory));
    const updated = readIfExists(join(directory, "updated"));
    const age = Date.now() - Date.parse(updated ?? "");
    if (changed || !(age < INDEX_AGE)) await root.update();
    return root;
  }

  /** Fetches the suites' indexes. */
  async update(): Promise<void> {
    this.#progress("downloading the package indexes of Debian");
    // Without Error-Mode an unreachable suite is only a warning.
    await this.#apt(["-o", "APT::Update::Error-Mode=any", "-qq", "update"]);
    Deno.writeTextFileSync(
      join(this.#directory, "updated"),
      new Date().toISOString(),
    );
  }

  /**
   * The packages with all that they depend on.
   *
   * @param packages names, each with a suite where it matters (`name/suite`)
   * @throws {RigError} `download` when apt finds no solution
   */
  async resolve(packages: readonly string[]): Promise<AptPackage[]> {
    const output = await this.#apt([
      "-qq",
      "--yes",
      "--print-uris",
      "install",
      ...packages,
    ]);
    return parseUris(output);
  }

  /**
   * Downloads packages into the directory `into`; a progress line for each
   * of 1 MB and more.
   *
   * @throws {RigError} `download`
   */
  async download(
    packages: readonly AptPackage[],
    into: string,
  ): Promise<void> {
    const names = packages.map(({ name, version }) => `${name}=${version}`);
    const bytes = new Map(packages.map(({ name, size }) => [name, size]));
    await this.#apt(["-q", "download", ...names], into, (line) => {
      // Get:3 <mirror> trixie/main amd64 libfoo1 amd64 1.2-3 [33.4 kB]
      const name = /^Get:\d+ \S+ \S+ \S+ (\S+) /.exec(line)?.[1];
      const size = bytes.get(name ?? "");
      if (name === undefined || size === undefined || size < 1e6) return;
      this.#progress(`downloading ${name} … ${megabytes(size)}`);
    });
  }

  async #apt(
    args: readonly string[],
    cwd?: string,
    onLine?: (line: string) => void,
  ): Promise<string> {
    await using apt = ChildProcess.start("apt-get", {
      args: ["-c", this.#configuration, ...args],
      env: { LC_ALL: "C.UTF-8", DEBIAN_FRONTEND: "noninteractive" },
      cwd,
      name: "apt-get",
    });
    const end = performance.now() + APT_TIMEOUT;
    while (onLine !== undefined) {
      const left = Math.max(0, end - performance.now());
      const found = await apt.stdout.wait([/.*\n/], left);
      if (typeof found === "string") break;
      onLine(found.text);
    }
    let why = `took more than ${APT_TIMEOUT / 60_000} minutes`;
    try {
      const { code } = await apt.wait(Math.max(1, end - performance.now()));
      if (code === 0) return apt.stdout.text;
      why = `ended with code ${code}`;
    } catch (error) {
      if (!(error instanceof DeadlineError)) throw error;
    }
    throw new RigError(
      "download",
      `Cannot fetch Debian packages: apt-get ${why}:\n` +
        lastLines(apt.stderr.text),
    );
  }
}

/** A size for people: `9.4 MB`, `33 kB`. */
export function megabytes(bytes: number): string {
  return bytes < 1e6
    ? `${Math.ceil(bytes / 1e3)} kB`
    : `${(bytes / 1e6).toFixed(1)} MB`;
}

/**
 * The packages of `apt-get --print-uris`: lines of
 * `'uri' name_version_architecture.deb size digest`, the epoch's colon
 * written `%3a`.
 */
export function parseUris(output: string): AptPackage[] {
  const packages: AptPackage[] = [];
  const line = /^'[^']*' ([^_ ]+)_([^_ ]+)_[^_ ]+\.deb (\d+)/gm;
  for (const [, name, version, size] of output.matchAll(line)) {
    packages.push({
      name,
      version: decodeURIComponent(version),
      size: Number(size),
    });
  }
  return packages;
}

/**
 * The mirror of the Debian archive among the sources of the system's apt, or
 * `null`. Security and third-party archives do not hold the suites.
 *
 * @param uris the output of `apt-get --print-uris update`: lines that begin
 * with `'<mirror>dists/<suite>/InRelease'`
 */
export function chooseMirror(uris: string): string | null {
  const suite =
    /^(stable|oldstable|testing|unstable|sid|bullseye|bookworm|trixie|forky|duke)(-updates|-backports)?$/;
  for (const found of uris.matchAll(/^'(\S+\/)dists\/([^/]+)\/InRelease'/gm)) {
    if (suite.test(found[2])) return found[1];
  }
  return null;
}

async function findMirror(): Promise<string> {
  const named = Deno.env.get("VHOSTD_DEBIAN_MIRROR");
  if (named) return named;
  try {
    // Unlike "indextargets" this works before the first "update", too.
    const { stdout } = await runCommand("apt-get", {
      args: ["--print-uris", "update"],
      env: { LC_ALL: "C.UTF-8" },
    });
    const mirror = chooseMirror(stdout);
    if (mirror !== null) return mirror;
  } catch (error) {
    if (!(error instanceof ProcessError)) throw error;
  }
  throw new RigError(
    "platform",
    "Cannot find a mirror of the Debian archive: the sources of apt name " +
      "none. Name one in VHOSTD_DEBIAN_MIRROR",
  );
}

function configuration(directory: string): string {
  return `// Written anew by each run.
#clear APT::Update;
#clear APT::Default-Release;
#clear APT::Architectures;
#clear DPkg;
#clear Acquire::Languages;
Dir::Etc::sourcelist "${directory}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "${directory}/state";
Dir::State::status "${directory}/state/status";
Dir::Cache "${directory}/cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Log "${directory}";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::Languages { "none"; };
Acquire::Retries "3";
`;
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

function readIfExists(path: string): string | null {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}
