import { pathInRepository } from "./repository.ts";

type Node = Deno.lint.Node;

function isForeign(name: string): boolean {
  return name === "dlopen" || name.startsWith("Unsafe");
}

function nameOf(node: Node): string | undefined {
  if (node.type === "Identifier") return node.name;
  if (node.type === "Literal" && typeof node.value === "string") {
    return node.value;
  }
  return undefined;
}

function isDeno(node: Node | null): boolean {
  return node?.type === "Identifier" && node.name === "Deno";
}

/** Refuses `Deno.dlopen` and `Deno.Unsafe…` outside of `sys/`. */
export const ffiOnlyInSys: Deno.lint.Rule = {
  create(context) {
    if (pathInRepository(context.filename)?.startsWith("sys/")) return {};
    const check = (node: Node, name: string | undefined): void => {
      if (name === undefined || !isForeign(name)) return;
      context.report({
        node,
        message: `Deno.${name} is for sys/ alone`,
        hint: "Add a function with its C prototype to sys/ and call that",
      });
    };
    return {
      MemberExpression(node) {
        if (isDeno(node.object)) check(node, nameOf(node.property));
      },
      TSQualifiedName(node) {
        if (isDeno(node.left)) check(node, node.right.name);
      },
      VariableDeclarator(node) {
        if (!isDeno(node.init) || node.id.type !== "ObjectPattern") return;
        for (const property of node.id.properties) {
          if (property.type !== "Property") continue;
          check(property.key, nameOf(property.key));
        }
      },
    };
  },
};
