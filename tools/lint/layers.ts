/**
 * What each part of the repository may import, by the paths of the two files.
 *
 * The layers lie on each other: `sys` and `virtqueue` at the bottom know
 * nothing of ours, `vhost` and `backends` use both of them but not each other,
 * `host` uses all. Two folders named `testing` hold drivers and front-ends that
 * only tests may use. A test file beside the code keeps to its layer, and may
 * use `tests/support` besides.
 */

/** Folders (with a slash) and files that the files of a folder may import. */
interface Layer {
  readonly folder: string;
  readonly imports: readonly string[];
}

/** The first layer whose folder holds a file is the one that counts. */
const layers: readonly Layer[] = [
  { folder: "sys/", imports: ["sys/"] },
  { folder: "virtqueue/", imports: ["virtqueue/"] },
  { folder: "vhost/", imports: ["vhost/", "sys/", "virtqueue/"] },
  {
    folder: "backends/",
    imports: ["backends/", "sys/", "virtqueue/"],
  },
  {
    folder: "host/",
    imports: [
      "host/",
      "backends/",
      "vhost/",
      "sys/",
      "virtqueue/",
      // For the version.
      "deno.json",
    ],
  },
  { folder: "std/", imports: [] },
  { folder: "tools/", imports: ["tools/"] },
  { folder: "docs/", imports: ["docs/", "mod.ts"] },
  {
    folder: "tests/",
    imports: [
      "tests/",
      "docs/",
      "host/",
      "backends/",
      "vhost/",
      "sys/",
      "virtqueue/",
      "tools/",
      "mod.ts",
      "main.ts",
      "deno.json",
    ],
  },
  {
    folder: "",
    imports: ["host/", "backends/", "vhost/", "sys/", "virtqueue/"],
  },
];

/** A test, a benchmark, or a helper that only those use. */
function isTest(path: string): boolean {
  return path.startsWith("tests/") || isTesting(path) ||
    /_(?:test|bench)\.ts$/.test(path);
}

function isTesting(path: string): boolean {
  return path.split("/").slice(0, -1).includes("testing");
}

/** `backends/blk/` for a file in it, undefined for a file of another layer. */
function deviceFolder(path: string): string | undefined {
  return /^backends\/[^/]+\//.exec(path)?.[0];
}

function isStorageUser(folder: string): boolean {
  return folder === "backends/blk/" || folder === "backends/scsi/";
}

function packageFolder(path: string): string | undefined {
  return /^std\/[^/]+\//.exec(path)?.[0];
}

/**
 * Why a file must not import another, or undefined where it may.
 *
 * @param from Path of the importing file from the root of the repository.
 * @param to Path of the imported file, likewise.
 */
export function refusal(from: string, to: string): string | undefined {
  if (isTesting(to) && !isTest(from)) {
    return `"${to}" is for tests only`;
  }
  if (isTest(from) && to.startsWith("tests/support/")) return undefined;
  const stdPackage = packageFolder(from);
  if (stdPackage !== undefined) {
    return to.startsWith(stdPackage)
      ? undefined
      : "a package in std/ imports nothing of ours";
  }
  const layer = layers.find(({ folder }) => from.startsWith(folder));
  const allowed = layer?.imports ?? [];
  if (!allowed.some((part) => to === part || inFolder(to, part))) {
    const name = layer?.folder || "a file at the root";
    const list = allowed.length > 0 ? allowed.join(", ") : "nothing";
    return `${name} may import ${list}`;
  }
  const source = deviceFolder(from);
  const target = deviceFolder(to);
  if (
    source !== undefined && target !== undefined && source !== target &&
    !(target === "backends/storage/" && isStorageUser(source))
  ) {
    return `${source} and ${target} do not know each other`;
  }
  return undefined;
}

function inFolder(path: string, folder: string): boolean {
  return folder.endsWith("/") && path.startsWith(folder);
}

/**
 * Why a file must not import a package, or undefined where it may.
 *
 * @param from Path of the importing file from the root of the repository.
 * @param name The name in the import, such as `fast-check`.
 */
export function packageRefusal(from: string, name: string): string | undefined {
  if (/^(?:npm|jsr|https?):/.test(name)) {
    return "packages are named in the imports of deno.json";
  }
  const usesNode = isTest(from) || /^(?:std|tools)\//.test(from);
  if (name.startsWith("node:") && !usesNode) {
    return "only std/, tools/ and tests use the modules of node";
  }
  if (/^fast-check(?:\/|$)/.test(name) && !isTest(from)) {
    return `"${name}" is for tests only`;
  }
  return undefined;
}
