# Made from the program by `make docs`; changes here are lost.
_ota() {
    local current="${COMP_WORDS[COMP_CWORD]}"
    local previous="${COMP_WORDS[COMP_CWORD-1]}" path="ota" word index=1
    if [ "$current" = "=" ]; then current=""
    elif [ "$previous" = "=" ]; then previous="${COMP_WORDS[COMP_CWORD-2]}"; fi
    while [ $index -lt $COMP_CWORD ]; do
        word="${COMP_WORDS[index]}"
        index=$((index + 1))
        case "$path $word" in
            "ota status"|"ota check"|"ota update"|"ota activate"|"ota commit"|"ota rollback"|"ota switch-slot"|"ota wait"|"ota setup"|"ota doctor"|"ota history"|"ota verify"|"ota proxy"|"ota ssh-gate"|"ota image"|"ota image build"|"ota image sign"|"ota image prepare"|"ota image verify"|"ota image inspect"|"ota image unpack"|"ota image serve"|"ota demo") path="$path $word" ;;
        esac
    done
    case "$previous" in
        --output) COMPREPLY=($(compgen -W "auto rich plain json jsonl" -- "$current")); return ;;
        --color) COMPREPLY=($(compgen -W "auto always never" -- "$current")); return ;;
        --root|--log-file|--cacert|--cert|--key|--cookie-file|--persist|--ignore|--anchor|--anchors) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        --as|--cookie|--limit-rate|--proxy|--ecu|--timeout|--last|--upstream|--address|--port|--compatible|--expires) return ;;
    esac
    case "$path" in
        "ota") word="status check update activate commit rollback switch-slot wait setup doctor history verify proxy ssh-gate image demo --version --root --output --json -v --verbose -q --quiet --color --log-file -h --help" ;;
        "ota status") word="--root --output --json -v --verbose -q --quiet --color --log-file --no-ecus --exit-code -h --help" ;;
        "ota check") word="--root --output --json -v --verbose -q --quiet --color --log-file --version --as --cacert --cert --key --cookie-file --cookie --insecure-http --limit-rate --proxy --allow-downgrade --retry-failed --no-ecus -h --help" ;;
        "ota update") word="--root --output --json -v --verbose -q --quiet --color --log-file --version --as --cacert --cert --key --cookie-file --cookie --insecure-http --limit-rate --proxy --ecu --stage-only --reboot -n --dry-run --allow-downgrade --retry-failed --no-format --no-self-confirm --verify-writes -h --help" ;;
        "ota activate") word="--root --output --json -v --verbose -q --quiet --color --log-file --all --ecu -h --help" ;;
        "ota commit") word="--root --output --json -v --verbose -q --quiet --color --log-file -h --help" ;;
        "ota rollback") word="--root --output --json -v --verbose -q --quiet --color --log-file --all --ecu -h --help" ;;
        "ota switch-slot") word="a b --root --output --json -v --verbose -q --quiet --color --log-file --trust-record --all --ecu -h --help" ;;
        "ota wait") word="--root --output --json -v --verbose -q --quiet --color --log-file --timeout -h --help" ;;
        "ota setup") word="--root --output --json -v --verbose -q --quiet --color --log-file --repair --refresh -h --help" ;;
        "ota doctor") word="--root --output --json -v --verbose -q --quiet --color --log-file --no-ecus -h --help" ;;
        "ota history") word="--root --output --json -v --verbose -q --quiet --color --log-file -n --last -h --help" ;;
        "ota verify") word="a b --root --output --json -v --verbose -q --quiet --color --log-file --repair --version --cacert --cert --key --cookie-file --cookie --insecure-http --limit-rate --proxy -h --help" ;;
        "ota proxy") word="--root --output --json -v --verbose -q --quiet --color --log-file --upstream --address --port --until-eof --cacert --cert --key --cookie-file --cookie --insecure-http --limit-rate --proxy -h --help" ;;
        "ota ssh-gate") word="--root --output --json -v --verbose -q --quiet --color --log-file -h --help" ;;
        "ota image") word="build sign prepare verify inspect unpack serve --root --output --json -v --verbose -q --quiet --color --log-file -h --help" ;;
        "ota image build") word="--output --json -v --verbose -q --quiet --color --log-file --version --compatible --expires --persist --ignore --all-kernels -h --help" ;;
        "ota image sign") word="--output --json -v --verbose -q --quiet --color --log-file --key --cert -h --help" ;;
        "ota image prepare") word="--output --json -v --verbose -q --quiet --color --log-file --anchor -h --help" ;;
        "ota image verify") word="--root --output --json -v --verbose -q --quiet --color --log-file --anchors --cacert --cert --key --cookie-file --cookie --insecure-http --limit-rate --proxy -h --help" ;;
        "ota image inspect") word="--root --output --json -v --verbose -q --quiet --color --log-file --anchors --cacert --cert --key --cookie-file --cookie --insecure-http --limit-rate --proxy -h --help" ;;
        "ota image unpack") word="--root --output --json -v --verbose -q --quiet --color --log-file --anchors --cacert --cert --key --cookie-file --cookie --insecure-http --limit-rate --proxy -h --help" ;;
        "ota image serve") word="--output --json -v --verbose -q --quiet --color --log-file --address --port -h --help" ;;
        "ota demo") word="--output --json -v --verbose -q --quiet --color --log-file --keep -h --help" ;;
    esac
    COMPREPLY=($(compgen -W "$word" -- "$current"))
    [ ${#COMPREPLY[@]} -gt 0 ] || mapfile -t COMPREPLY < <(compgen -f -- "$current")
}
complete -o filenames -F _ota ota
