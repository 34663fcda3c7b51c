import { findRegistryHosts } from "../registry_hosts.ts";

/** Refuses the names of package registries and mirrors, also in comments. */
export const noRegistryHosts: Deno.lint.Rule = {
  create(context) {
    return {
      Program() {
        for (
          const { name, start } of findRegistryHosts(context.sourceCode.text)
        ) {
          context.report({
            range: [start, start + name.length],
            message: `"${name}" names a registry`,
            hint: "Take the address from the configuration of the machine",
          });
        }
      },
    };
  },
};
