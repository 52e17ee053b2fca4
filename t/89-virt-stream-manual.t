# What virt-stream takes, what its manual page says, and what the shells complete are the same.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest;

plan skip_all => 'not in a source tree' unless -e 'bin/virt-stream' && -e 'share/zsh/site-functions/_virt-stream';

my ($specs) = slurp('lib/Sys/Virt/Stream/Command/Main.pm') =~ /^my \@SPECS = qw\((.*?)\);/ms;
my %takes;
for my $spec (split ' ', $specs) {
    my ($name) = $spec =~ /^([a-z-]+)/;
    $takes{$name} = 1;
    $takes{"no-$name"} = 1 if $spec =~ /!$/;
}

my %says;
my $manual = slurp('bin/virt-stream');
for my $item ($manual =~ /^=item (-.*)$/mg) { $says{$_} = 1 for $item =~ /--([a-z-]+)/g }
$says{sparse} = 1 if $manual =~ /C<--sparse>/;
is join(' ', sort keys %says), join(' ', sort keys %takes), 'the manual page';

for my $file ('bash-completion/completions/virt-stream', 'zsh/site-functions/_virt-stream') {
    # virsh has options of its own.
    my %named = map { $_ => 1 } slurp("share/$file") =~ s/virsh [^|)]*//gr =~ /--([a-z][a-z-]+)/g;
    is join(' ', sort keys %named), join(' ', sort keys %takes), $file;
}

SKIP: {
    my $bash = StreamTest::find_program('bash') or skip 'no bash here', 4;
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
}

done_testing;
