package Sys::Virt::Stream::Command::Failure;

# What is said of an exception.

use strict;
use warnings;

our $VERSION = '0.2.0';

use Exporter 'import';

our @EXPORT_OK = qw(reason trying attempt code_of);

# Runs $code. Its exception gets $what in front, unless it names its file itself.
sub trying {
    my ($what, $code) = @_;
    my @result;
    return wantarray ? @result : $result[0] if eval { @result = $code->(); 1 };
    my $error = $@;
    die $error if Sys::Virt::Stream::Command::Main->interrupted;
    my ($text, $names_file) = _parts($error);
    die $names_file ? "$text\n" : "$what: $text\n";
}

# What the code returns, or undef if it dies. A signal's exception goes on.
sub attempt {
    my ($code) = @_;
    my $result;
    return $result if eval { $result = $code->(); 1 };
    die $@ if Sys::Virt::Stream::Command::Main->interrupted;
    return;
}

# One line, without the place in the program.
sub reason { return (_parts($_[0]))[0] }

# libvirt's number of an error; 0 for any other exception.
sub code_of { return ref $_[0] && $_[0]->isa('Sys::Virt::Error') ? $_[0]->code : 0 }

sub _parts {
    my ($error) = @_;
    my $text = ref $error && $error->isa('Sys::Virt::Error') ? $error->message : "$error";
    $text =~ s/ at \S[^\n]* line [0-9]+\.\s*\z//;
    $text =~ s/\s+\z//;
    $text =~ s/\s*\n\s*/ /g;
    my $names_file = $text =~ s/\A(?:recv|send)_file failed: (?!the stream)//;
    $text =~ s/\A(?:recv|send)_file(?: failed)?: //;
    $names_file ||= !ref $error && $text =~ /\Acannot /;    # this program's own
    $text =~ s/file descriptor 0/standard input/;
    $text =~ s/file descriptor 1\b/standard output/;
    return ($text, $names_file);
}

1;
