# SPDX-License-Identifier: GPL-2.0
# fish completion for popcornctl. The words come from popcornctl itself, which knows its commands and
# the names of kernels and nodes: nothing here to keep up to date.

function __popcornctl_complete
    set -l tokens (commandline --cut-at-cursor --current-process --tokenize)
    set -l words (commandline --cut-at-cursor --current-process)
    set -l current (commandline --cut-at-cursor --current-token)
    # The words are what comes behind --option=, fish wants the whole.
    set -l before (string match --regex -- '^--[^=]*=' $current | string collect --allow-empty)
    set -l behind (string replace --regex -- '^--[^=]*=' '' $current | string collect --allow-empty)
    # A line for each: what it is, a comma, the word, and after a tab what it means.
    for line in (env COMP_WORDS="$words" COMP_CWORD="$current" \
            _POPCORNCTL_COMPLETE=fish_complete $tokens[1] 2>/dev/null)
        set -l parts (string split --max 1 -- , $line)
        switch $parts[1]
            case plain
                echo -- "$before$parts[2]"
            case file
                printf "$before%s\n" (__fish_complete_path "$behind")
            case dir
                printf "$before%s\n" (__fish_complete_directories "$behind")
        end
    end
end

complete --command popcornctl --no-files --arguments '(__popcornctl_complete)'
