# Completion of safeupdate in bash, as /usr/share/bash-completion/completions/safeupdate.

_safeupdate() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} verb='' action='' words=''
	# bash takes --root=DIR for three words.
	if [[ $word == = ]]; then
		word=
	elif [[ $before == = ]]; then
		before=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	((COMP_CWORD == 1)) || verb=${COMP_WORDS[1]}
	((COMP_CWORD <= 2)) || action=${COMP_WORDS[2]}
	COMPREPLY=()

	case $before in
	--root)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$word")
		return
		;;
	--kernel)
		mapfile -t COMPREPLY < <(compgen -W "$(_safeupdate_kernels)" -- "$word")
		return
		;;
	--limit | --reason | --require-driver) return ;;
	esac
	case $verb in
	"")
		words="check status settle allow reject reboot snapshot confirm history keys config capture"
		words="$words kured-sentinel hook --version"
		;;
	check) words="--root --kernel --require-driver --all-modules --json --quiet --verbose" ;;
	status) words="--json" ;;
	settle) words="--force" ;;
	allow) words="--reason --once --withdraw" ;;
	reject) words="--reason --withdraw $(_safeupdate_kernels)" ;;
	reboot) words="--if-needed --if-safe" ;;
	snapshot)
		case $action in
		"") words="list create delete undo" ;;
		list) words="--json" ;;
		undo) words="--execute" ;;
		esac
		;;
	history) words="--root --limit --json" ;;
	keys) words="--root" ;;
	config)
		case $action in
		"") words="show" ;;
		show) words="--root" ;;
		esac
		;;
	capture)
		words="--boot --root"
		if [[ $word != -* ]]; then
			compopt -o filenames
			mapfile -t COMPREPLY < <(compgen -d -- "$word")
			return
		fi
		;;
	hook) words="apt-pre apt-post dnf-pre dnf-post dnf5-pre dnf5-post changed" ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words --help" -- "$word")
}

_safeupdate_kernels() { ls /lib/modules 2> /dev/null; }

complete -F _safeupdate safeupdate
