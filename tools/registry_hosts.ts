/** A host name found in a text. */
export interface HostName {
  /** The name. */
  readonly name: string;
  /** Index of its first character. */
  readonly start: number;
}

const registries = [
  // Names that say what they are.
  String
    .raw`(?:registry|mirrors?|deb|ftp|archive|security|snapshot|packages|pypi|crates)\.[a-z\d-]+(?:\.[a-z\d-]+)*\.(?:org|com|net|io|dev)`,
  // Registries under the name of the organization.
  String
    .raw`(?:[a-z\d-]+\.)*(?:npmjs\.(?:org|com)|jsr\.io|deno\.land|esm\.sh|unpkg\.com|debian\.org|ubuntu\.com)`,
];
const pattern = new RegExp(
  String.raw`(?<![\w.-])(?:${registries.join("|")})(?![\w-]|\.\w)`,
  "gi",
);

/**
 * The names of package registries and mirrors in a text. The project does not
 * name any: they differ from machine to machine, and each machine's own
 * configuration has them.
 */
export function findRegistryHosts(text: string): HostName[] {
  return Array.from(
    text.matchAll(pattern),
    (match) => ({ name: match[0], start: match.index }),
  );
}
