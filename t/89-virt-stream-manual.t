# What virt-stream takes, what its manual page says, and what the shells complete are the same.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest;
use StreamTest::Command;

plan skip_all => 'not in a source tree' unless -e 'bin/virt-stream' && -e 'share/zsh/site-functions/_virt-stream';

# Who is asked which domains there are.
$ENV{LIBVIRT_DEFAULT_URI} = 'test:///default';
my ($specs) = slurp('lib/Sys/Virt/Stream/Command/Main.pm') =~ /^my \@SPECS = qw\((.*?)\);/ms;
my %takes;
for my $spec (split ' ', $specs) {
    my ($name) = $spec =~ /^([a-z-]+)/;
    $takes{$name} = 1;
    $takes{"no-$name"} = 1 if $spec =~ /!$/;
}

my $said = StreamTest::Command::options_said(slurp('bin/virt-stream'));
my %says = map { s/\A--//r => 1 } map { @$_ } values %$said;
is join(' ', sort keys %says), join(' ', sort keys %takes), 'the manual page';

for my $file ('bash-completion/completions/virt-stream', 'zsh/site-functions/_virt-stream') {
    # virsh has options of its own.
    my %named = map { $_ => 1 } slurp("share/$file") =~ s/virsh [^|)]*//gr =~ /--([a-z][a-z-]+)/g;
    is join(' ', sort keys %named), join(' ', sort keys %takes), $file;
}

SKIP: {
    my $bash = StreamTest::find_program('bash') or skip 'no bash here', 1;
    # What is offered for a line, as bash would ask for it.
    my $offers = sub {
        my (@words) = @_;
        my $script = '. share/bash-completion/completions/virt-stream; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
            . '_virt_stream; printf "%s\n" "${COMPREPLY[@]}"';
        open my $out, '-|', $bash, '--norc', '-c', $script, 'bash', 'virt-stream', @words or die "bash: $!";
        chomp(my @offered = <$out>);
        return join ' ', grep { length } @offered;
    };
    is $offers->('scr'), 'screenshot', 'a command';
    is $offers->('-c', 'test:///default', 'upload', '--cr'), '--create', 'an option of one';
    is $offers->('console', '--cr'), '', '... but not of another';
    is $offers->('screenshot', '--format', ''), 'png ppm', 'a value';
    my @everywhere = @{ $said->{''} };
    for my $command (grep { length } sort keys %$said) {
        is join(' ', sort split / /, $offers->($command, '--')), join(' ', sort @everywhere, @{ $said->{$command} }),
            "bash: the options of $command";
    }
}

SKIP: {
    my $zsh = StreamTest::has('zsh') or skip 'no zsh here', 1;
    # Types each line in a zsh with a terminal, and a tab. Prints what is offered then, and what the line
    # has become.
    my $script = spew(scratch() . '/complete.zsh', <<'EOZ');
zmodload zsh/zpty || exit 1
export TERM=dumb
zpty shell zsh -f -i
zpty -w shell 'PS1= PS2= LINES=500 COLUMNS=200 LISTMAX=500; fpath=(share/zsh/site-functions $fpath); autoload -Uz compinit; compinit -u -D; show() { print -r -- "<<$BUFFER>>"; BUFFER= }; zle -N show; bindkey "^I" complete-word "^X" show; print RE""ADY'
zpty -r shell out '*READY*'
for line; do
    zpty -w -n shell "$line"$'\t\x18'
    zpty -r shell out '*<<*>>*'
    print -r -- "$out"
    print -r -- '****'
done
zpty -d shell
EOZ
    my %becomes = ('scr' => 'screenshot ', 'console --cr' => 'console --cr', 'screenshot --format pn' => 'screenshot --format png ',
        '-c test:///default upload --form' => '-c test:///default upload --format ', 'download --progress j' => 'download --progress json ');
    my @commands = grep { length } sort keys %$said;
    my @lines = (sort(keys %becomes), map { "$_ --" } @commands);
    open my $out, '-|', $zsh, '-f', $script, map { "virt-stream $_" } @lines or die "zsh: $!";
    local $/;
    my %after;
    @after{@lines} = split /\*{4}\n/, <$out>;
    is_deeply { map { $_ => $after{$_} =~ /<<virt-stream (.*)>>/ } keys %becomes }, \%becomes, 'zsh: commands, options and values';
    for my $command (@commands) {
        my %offered = map { $_ => 1 } $after{"$command --"} =~ /^(--[a-z-]+)/mg;
        is join(' ', sort keys %offered), join(' ', sort @{ $said->{''} }, @{ $said->{$command} }), "zsh: the options of $command";
    }
}

done_testing;
