/** Lines a file may have. */
const MAX_LINES = 500;

/** Refuses files of more than 500 lines. */
export const maxFileLength: Deno.lint.Rule = {
  create(context) {
    return {
      Program() {
        const { text } = context.sourceCode;
        const lines = text.split("\n").length - (text.endsWith("\n") ? 1 : 0);
        if (lines <= MAX_LINES) return;
        context.report({
          range: [0, 0],
          message: `The file has ${lines} lines, more than ${MAX_LINES}`,
          hint: "Split it where two parts know little of each other",
        });
      },
    };
  },
};
