import { assertEquals } from "@std/assert";
import { findRegistryHosts } from "./registry_hosts.ts";

/** Names are put together here: this file must not contain them either. */
const host = (...labels: readonly string[]) => labels.join(".");

Deno.test("findRegistryHosts() finds registries and mirrors", () => {
  const names = [
    host("registry", "npmjs", "org"),
    host("www", "npmjs", "com"),
    host("jsr", "io"),
    host("npm", "jsr", "io"),
    host("deb", "debian", "org"),
    host("security", "ubuntu", "com"),
    host("mirror", "example", "net"),
    host("ftp", "de", "example", "org"),
  ];
  for (const name of names) {
    assertEquals(findRegistryHosts(`see ${name}, there`), [
      { name, start: 4 },
    ]);
    assertEquals(findRegistryHosts(`"https://${name}/x"`), [
      { name, start: 9 },
    ]);
    assertEquals(findRegistryHosts(`${name}.`), [{ name, start: 0 }]);
  }
});

Deno.test("findRegistryHosts() leaves other names alone", () => {
  const texts = [
    "jsr:@std/path@^1",
    "https://example.com/registry/a.org",
    "github.com/denoland/std",
    "registry.ts",
    "this.registry.get(name)",
    "deb.version",
    "127.0.0.1",
  ];
  for (const text of texts) assertEquals(findRegistryHosts(text), [], text);
});
