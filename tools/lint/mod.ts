/**
 * The lint rules of the house, as a plugin of `deno lint`. They run with every
 * `deno lint`; `deno.json` names this file.
 *
 * @module
 */
import { ffiOnlyInSys } from "./ffi_only_in_sys.ts";
import { importDirection } from "./import_direction.ts";
import { maxFileLength } from "./max_file_length.ts";
import { noRegistryHosts } from "./no_registry_hosts.ts";

const plugin: Deno.lint.Plugin = {
  name: "vhostd",
  rules: {
    "ffi-only-in-sys": ffiOnlyInSys,
    "import-direction": importDirection,
    "max-file-length": maxFileLength,
    "no-registry-hosts": noRegistryHosts,
  },
};

export default plugin;
