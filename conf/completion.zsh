#compdef headgate
# completion.zsh - what TAB does behind `headgate` in zsh. The program itself knows what fits where:
# `headgate complete WORD...` prints it. The one in PATH is asked, whatever was typed: TAB must not
# execute a file of the working folder.

_headgate() {
    local line
    local -a before found
    before=("${(@Q)words[2,CURRENT-1]}")
    # A tilde is a home for us as it will be for the shell.
    before=("${(@)before/#\~\//$HOME/}")
    (( CURRENT > 2 )) || before=()
    for line in "${(@f)$(command headgate complete "${before[@]}" "${(Q)PREFIX}" 2>/dev/null)}"; do
        case $line in
            ('') ;;
            (:files) [[ $PREFIX != --*=* ]] || compset -P '*='; _files ;;
            (:folders) [[ $PREFIX != --*=* ]] || compset -P '*='; _files -/ ;;
            (:commands) _command_names -e; _files -g '*(-*)' ;;
            (*) found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
        esac
    done
    (( $#found )) || return
    [[ $PREFIX != --*=* ]] || compset -P '*='
    _describe headgate found
}

# Loaded by name it is called at once; sourced, it says what it is for.
if [[ $funcstack[1] == _headgate ]]; then
    _headgate "$@"
else
    compdef _headgate headgate
fi
