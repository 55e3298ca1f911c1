# shellcheck shell=bash
# completion.bash - what TAB does behind `headgate` in bash. The program itself knows what fits where:
# `headgate complete WORD...` prints it. The one in PATH is asked, whatever was typed: TAB must not
# execute a file of the working folder.

_headgate() {
    local line cur=${COMP_WORDS[COMP_CWORD]}
    local -a words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    # A tilde is a home for us as it will be for the shell.
    words=("${words[@]/#\~\//$HOME/}")
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
        :files) compopt -o default ;;
        :folders) compopt -o dirnames ;;
        :commands)
            compopt -o default
            [[ $cur == */* ]] || mapfile -t COMPREPLY < <(compgen -c -- "$cur")
            ;;
        *) COMPREPLY+=("${line%%$'\t'*}") ;;
        esac
    done < <(command headgate complete "${words[@]}" 2>/dev/null)
}

complete -F _headgate headgate
