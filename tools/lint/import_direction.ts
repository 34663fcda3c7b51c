import { dirname, join } from "@std/path";
import { packageRefusal, refusal } from "./layers.ts";
import { pathInRepository } from "./repository.ts";

type Node = Deno.lint.Node;

function textOf(node: Node | null | undefined): string | undefined {
  if (node?.type !== "Literal" || typeof node.value !== "string") return;
  return node.value;
}

/** The first argument of `new URL("./module.ts", import.meta.url)`. */
function moduleUrl(node: Deno.lint.NewExpression): Node | undefined {
  const [path, base] = node.arguments;
  if (node.callee.type !== "Identifier" || node.callee.name !== "URL") return;
  if (base?.type !== "MemberExpression") return;
  return textOf(path)?.endsWith(".ts") ? path : undefined;
}

/**
 * Refuses imports that point upward: imports, exports from, dynamic imports,
 * types of imports, and URLs of modules (for Workers), where their specifier is
 * a literal. {@linkcode refusal} has the rules.
 */
export const importDirection: Deno.lint.Rule = {
  create(context) {
    const from = pathInRepository(context.filename);
    if (from === undefined) return {};
    const check = (node: Node | null | undefined): void => {
      const specifier = textOf(node);
      if (node === null || node === undefined || specifier === undefined) {
        return;
      }
      const relative = /^\.{1,2}\//.test(specifier);
      const reason = relative
        ? refusal(from, join(dirname(from), specifier))
        : packageRefusal(from, specifier);
      if (reason === undefined) return;
      context.report({
        node,
        message: `"${from}" must not import "${specifier}": ${reason}`,
        hint: "Imports point downward only, see ARCHITECTURE.md",
      });
    };
    return {
      ImportDeclaration: (node) => check(node.source),
      ExportAllDeclaration: (node) => check(node.source),
      ExportNamedDeclaration: (node) => check(node.source),
      ImportExpression: (node) => check(node.source),
      TSImportType(node) {
        const { argument } = node;
        check(argument.type === "TSLiteralType" ? argument.literal : argument);
      },
      NewExpression: (node) => check(moduleUrl(node)),
    };
  },
};
