# Completion of safeupdate in fish, as /usr/share/fish/vendor_completions.d/safeupdate.fish.

# Whether these words were typed, and only the first of them count.
function __safeupdate_at
    set -l words (commandline -opc)
    test "$words[2..$(math 1 + (count $argv))]" = "$argv"
end

# Whether nothing more was typed than these.
function __safeupdate_after
    set -l words (commandline -opc)
    test "$words[2..]" = "$argv"
end

function __safeupdate_kernels
    for path in /lib/modules/*
        string replace /lib/modules/ '' $path
    end
end

complete -c safeupdate -f
complete -c safeupdate -s h -l help -d 'show help'
complete -c safeupdate -n __safeupdate_after -l version -d 'show the version'

complete -c safeupdate -n __safeupdate_after -a check -d 'judge the kernel that boots next'
complete -c safeupdate -n __safeupdate_after -a status -d 'show whether reboots are held back, and why'
complete -c safeupdate -n __safeupdate_after -a settle -d 'judge what changed, and set the gate'
complete -c safeupdate -n __safeupdate_after -a allow -d 'let reboots through against the verdict'
complete -c safeupdate -n __safeupdate_after -a reject -d 'keep a kernel from starting by itself'
complete -c safeupdate -n __safeupdate_after -a reboot -d 'reboot if the gate lets it through'
complete -c safeupdate -n __safeupdate_after -a snapshot -d 'keep a state of this machine, and go back to it'
complete -c safeupdate -n __safeupdate_after -a confirm -d 'record that this boot came up'
complete -c safeupdate -n __safeupdate_after -a history -d 'show the boots and checks that were recorded'
complete -c safeupdate -n __safeupdate_after -a keys -d 'which keys this machine trusts, and for what'
complete -c safeupdate -n __safeupdate_after -a config -d 'what is configured, and where'
complete -c safeupdate -n __safeupdate_after -a capture -d 'copy what a check reads into a directory'
complete -c safeupdate -n __safeupdate_after -a kured-sentinel -d 'tell kured whether to reboot'
complete -c safeupdate -n __safeupdate_after -a hook -d 'what package managers call'

complete -c safeupdate -n '__safeupdate_at check' -l root -xa '(__fish_complete_directories)' -d 'judge the machine below this directory'
complete -c safeupdate -n '__safeupdate_at check' -l kernel -xa '(__safeupdate_kernels)' -d 'judge this kernel instead'
complete -c safeupdate -n '__safeupdate_at check' -l require-driver -x -d 'a driver under the root file system'
complete -c safeupdate -n '__safeupdate_at check' -l all-modules -d 'verify the signature of every module'
complete -c safeupdate -n '__safeupdate_at check' -l json -d 'print the report as JSON'
complete -c safeupdate -n '__safeupdate_at check' -l quiet -d 'print the verdict only'
complete -c safeupdate -n '__safeupdate_at check' -l verbose -d 'print evidence and notes too'
complete -c safeupdate -n '__safeupdate_at status' -l json -d 'print it as JSON'
complete -c safeupdate -n '__safeupdate_at settle' -l force -d 'judge anew though nothing changed'
complete -c safeupdate -n '__safeupdate_at allow' -l reason -x -d 'why; it is kept in the ledger'
complete -c safeupdate -n '__safeupdate_at allow' -l once -d 'for the next reboot only'
complete -c safeupdate -n '__safeupdate_at allow' -l withdraw -d 'take it back'
complete -c safeupdate -n '__safeupdate_at reject' -l reason -x -d 'why; it is kept in the ledger'
complete -c safeupdate -n '__safeupdate_at reject' -l withdraw -d 'take it back'
complete -c safeupdate -n '__safeupdate_at reject' -a '(__safeupdate_kernels)' -d 'a kernel'
complete -c safeupdate -n '__safeupdate_at reboot' -l if-needed -d 'only where something asks for it'
complete -c safeupdate -n '__safeupdate_at reboot' -l if-safe -d 'only where one without a person is let through'
complete -c safeupdate -n '__safeupdate_after snapshot' -a list -d 'show what there is to go back to'
complete -c safeupdate -n '__safeupdate_after snapshot' -a create -d 'take a snapshot now'
complete -c safeupdate -n '__safeupdate_after snapshot' -a delete -d 'remove a snapshot'
complete -c safeupdate -n '__safeupdate_after snapshot' -a undo -d 'print the commands that go back to a snapshot, or run them'
complete -c safeupdate -n '__safeupdate_at snapshot list' -l json -d 'print it as JSON'
complete -c safeupdate -n '__safeupdate_at snapshot undo' -l execute -d 'run the commands'
complete -c safeupdate -n '__safeupdate_at history' -l root -xa '(__fish_complete_directories)' -d 'show those of the machine below this directory'
complete -c safeupdate -n '__safeupdate_at history' -l limit -x -d 'show that many rows'
complete -c safeupdate -n '__safeupdate_at history' -l json -d 'print them as JSON'
complete -c safeupdate -n '__safeupdate_at keys' -l root -xa '(__fish_complete_directories)' -d 'those of the machine below this directory'
complete -c safeupdate -n '__safeupdate_after config' -a show -d 'print what is in force'
complete -c safeupdate -n '__safeupdate_at config show' -l root -xa '(__fish_complete_directories)' -d 'that of the machine below this directory'
complete -c safeupdate -n '__safeupdate_at capture' -l boot -d 'with kernels, initramfs images and modules'
complete -c safeupdate -n '__safeupdate_at capture' -l root -xa '(__fish_complete_directories)' -d 'capture the machine below this directory'
complete -c safeupdate -n '__safeupdate_at capture' -a '(__fish_complete_directories)' -d 'a directory'
complete -c safeupdate -n '__safeupdate_after hook' -a 'apt-pre apt-post dnf-pre dnf-post dnf5-pre dnf5-post changed'
